"""JSON schemas of the values that views and answers have as Python types. All of them are closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
DOLLARS: Schema = {"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "description": "Dollars, all digits."}
WHOLE: Schema = {"type": "integer"}
ANYTHING: Schema = {}

SIMPLE: dict[Any, Schema] = {
    str: TEXT,
    int: WHOLE,
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Decimal: DOLLARS,
    NoneType: {"type": "null"},
    Any: ANYTHING,
    object: ANYTHING,
    msgspec.Raw: ANYTHING,
}


def closed(description: str, optional: Mapping[str, Schema] | None = None, /, **properties: Schema) -> Schema:
    """Return the schema of an object that has these properties, perhaps the optional ones, and no others."""
    return {
        "type": "object",
        "description": description,
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
    }


def nullable(schema: Schema) -> Schema:
    """Return the schema of a value that may be null instead."""
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(schema: Schema) -> Schema:
    """Return the schema of an array of such values."""
    return {"type": "array", "items": schema}


def one_of(*values: str) -> Schema:
    """Return the schema of a text that is one of these."""
    return {"type": "string", "enum": list(values)}


def schema_of(kind: Any) -> Schema:
    """Return the schema of a type's values, as `plain` writes them for programs."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return MOMENT if "moment" in inner[1:] else schema_of(inner[0])
    if origin in (Union, UnionType):
        given = [schema_of(one) for one in inner if one is not msgspec.UnsetType]
        return given[0] if len(given) == 1 else {"anyOf": given}
    if origin is Literal:
        return {"enum": list(inner)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return one_of(*(member.value for member in kind))
    if isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, msgspec.Struct)):
        return _object(kind)
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(inner[1])}
    if inner:
        return list_of(schema_of(inner[0]))
    raise TypeError(f"{kind} has no JSON schema")


def _object(kind: type[Any]) -> Schema:
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Schema] = {}
    left_out: dict[str, Schema] = {}
    if is_dataclass(kind):
        for field in fields(kind):
            if field.metadata.get("flat"):
                found |= schema_of(_without_none(hints[field.name]))["properties"]
            else:
                found[field.name] = schema_of(hints[field.name])
    else:
        for own in msgspec.structs.fields(kind):
            into = left_out if own.default is msgspec.UNSET else found
            into[own.encode_name] = schema_of(hints[own.name])
    return closed((kind.__doc__ or kind.__name__).partition("\n")[0], left_out, **found)


def _without_none(kind: Any) -> Any:
    return next((one for one in get_args(kind) if one is not NoneType), kind)
