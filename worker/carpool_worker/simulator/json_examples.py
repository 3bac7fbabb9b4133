"""An example for a JSON schema: the smallest value that it allows, as the model answers where one is asked for.

It reads `$ref`, `const`, `enum`, `allOf`, `anyOf`, `oneOf`, `type`, what objects and arrays require, and the bounds and
formats of numbers and strings: more than Anthropic's structured outputs allow. `pattern`, `not`, `if` and `uniqueItems`
are not read.
"""

from collections.abc import Mapping
from functools import reduce
from math import ceil, floor
from typing import Any

TEXT = "[simulated]"
FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "simulated@example.com",
    "hostname": "simulated.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://simulated.example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
TYPES_BY_KEYWORD = {"properties": "object", "required": "object", "items": "array", "prefixItems": "array"}
MERGED_KEYWORDS = frozenset({"properties", "$defs", "definitions"})

Schema = Mapping[str, Any]


class NoExampleError(ValueError):
    """Raised if no value can be made for a schema: it allows none, contains itself without end, or is malformed."""


def example_of(schema: Any) -> Any:
    """Return the smallest value that the schema allows; raise NoExampleError."""
    try:
        return _Examples(schema).make(schema, ())
    except NoExampleError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise NoExampleError(f"not a JSON schema that can be read ({type(error).__name__})") from None


class _Examples:
    """Makes examples for the parts of one schema, to whose definitions they refer."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def make(self, schema: Any, inside: tuple[str, ...]) -> Any:
        """Return an example; `inside` names the references that this schema is a part of."""
        if schema is False:
            raise NoExampleError("it allows no value")
        if schema is True:
            return TEXT
        if "$ref" in schema:
            return self._referred(schema, inside)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        if "allOf" in schema:
            rest = {keyword: value for keyword, value in schema.items() if keyword != "allOf"}
            return self.make(reduce(_merge, [*map(self._resolved, schema["allOf"]), rest]), inside)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                rest = {name: value for name, value in schema.items() if name != keyword}
                return self._first_possible([_merge(rest, part) for part in schema[keyword]], inside)
        return self._typed(_type_of(schema), schema, inside)

    def _referred(self, schema: Schema, inside: tuple[str, ...]) -> Any:
        pointer = schema["$ref"]
        if pointer in inside:
            raise NoExampleError(f"{pointer} contains itself without end")
        rest = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
        return self.make(_merge(self._at(pointer), rest), (*inside, pointer))

    def _resolved(self, schema: Any) -> Any:
        return self._at(schema["$ref"]) if "$ref" in schema else schema

    def _at(self, pointer: str) -> Any:
        if not pointer.startswith("#"):
            raise NoExampleError(f"{pointer} is not within the schema")
        place = self._root
        for step in pointer.split("/")[1:]:
            place = place[step.replace("~1", "/").replace("~0", "~")]
        return place

    def _first_possible(self, schemas: list[Any], inside: tuple[str, ...]) -> Any:
        problem = NoExampleError("it allows no value")
        for schema in schemas:
            try:
                return self.make(schema, inside)
            except NoExampleError as error:
                problem = error
        raise problem

    def _typed(self, kind: str, schema: Schema, inside: tuple[str, ...]) -> Any:
        match kind:
            case "object":
                properties = schema.get("properties", {})
                return {
                    name: self.make(properties.get(name, True), inside) for name in schema.get("required", ())
                }
            case "array":
                return self._array(schema, inside)
            case "string":
                return _string(schema)
            case "integer":
                return _integer(schema)
            case "number":
                return _number(schema)
            case "boolean":
                return True
            case "null":
                return None
        raise NoExampleError(f"{kind} is not a type")

    def _array(self, schema: Schema, inside: tuple[str, ...]) -> list[Any]:
        """Return as few items as are allowed, but one where that is possible."""
        least, most = schema.get("minItems", 0), schema.get("maxItems", 1)
        first = schema.get("prefixItems", [])
        wanted = max(least, min(1, most))
        try:
            return [
                self.make(first[place] if place < len(first) else schema.get("items", True), inside)
                for place in range(wanted)
            ]
        except NoExampleError:
            if least > 0:
                raise
            return []


def _merge(one: Any, other: Any) -> Any:
    """Return a schema that asks for what both ask for, as far as that can be written as one."""
    if isinstance(one, bool) or isinstance(other, bool):
        return False if False in (one, other) else other if one is True else one
    merged = {**one, **other}
    for keyword in MERGED_KEYWORDS & one.keys() & other.keys():
        merged[keyword] = {**one[keyword], **other[keyword]}
    if "required" in one and "required" in other:
        merged["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return merged


def _type_of(schema: Schema) -> str:
    kind = schema.get("type")
    if kind is None:
        return next((named for keyword, named in TYPES_BY_KEYWORD.items() if keyword in schema), "string")
    return str(kind if isinstance(kind, str) else kind[0])


def _string(schema: Schema) -> str:
    text = FORMATS.get(schema.get("format", ""), TEXT)
    least = schema.get("minLength", 0)
    if len(text) < least:
        text *= ceil(least / len(text))
        text = text[:least]
    return text[: schema.get("maxLength", len(text))]


def _integer(schema: Schema) -> int:
    step = schema.get("multipleOf", 1)
    least = ceil(schema.get("minimum", -(10**15)))
    most = floor(schema.get("maximum", 10**15))
    if (above := schema.get("exclusiveMinimum")) is not None:
        least = max(least, floor(above) + 1)
    if (below := schema.get("exclusiveMaximum")) is not None:
        most = min(most, ceil(below) - 1)
    nearest = min(max(0, least), most)
    value = int(ceil(nearest / step) * step)
    value = value if value <= most else int(floor(nearest / step) * step)
    if not least <= value <= most:
        raise NoExampleError("no integer is within its bounds")
    return value


def _number(schema: Schema) -> float:
    if float(schema.get("multipleOf", 1)).is_integer() and _has_integer(schema):
        return _integer(schema)
    least = max(schema.get("minimum", -1e15), schema.get("exclusiveMinimum", -1e15))
    most = min(schema.get("maximum", 1e15), schema.get("exclusiveMaximum", 1e15))
    return float((least + most) / 2)


def _has_integer(schema: Schema) -> bool:
    try:
        _integer(schema)
    except NoExampleError:
        return False
    return True
