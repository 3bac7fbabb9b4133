"""Encodes values as JSON, or raises an error that names the part that can't be encoded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from carpool.contract import to_json
from carpool.exceptions import InvalidRequest

MAX_DEPTH = 200
"""Levels of nested lists and dicts. JSON decoders recurse, and the worker's must never fail on a request."""

TOO_DEEP = f"is nested too deeply ({MAX_DEPTH} levels at most), or contains itself"

PLAIN = frozenset({str, int, float, bool, type(None)})

FORMLESS = (bytes, bytearray, memoryview, datetime, date, time, timedelta, Decimal, UUID)
FORMLESS_CONTAINERS = (set, frozenset)
"""What JSON has no form for. msgspec would turn it into text or a list, and which text is for the caller to say."""


def encode(field: str, value: object, limit: int, *, is_fine: bool = False) -> bytes:
    """Return `value` as JSON of at most `limit` bytes; `field` is its name in errors. It may be known to be fine.

    Raises InvalidRequest for what JSON can't represent, NaN and infinities included (RFC 8259, section 6), and for
    more than MAX_DEPTH levels.
    """
    try:
        body = to_json(value)
    except RecursionError:
        raise InvalidRequest(field, TOO_DEEP) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(_culprit(field, value), f"can't be JSON: {error}") from None
    # msgspec writes NaN and infinities as null.
    if not (is_fine or is_surely_fine(value)):
        _refuse_odd(field, value, MAX_DEPTH)
        _refuse_odd(
            field, msgspec.to_builtins(value, builtin_types=FORMLESS), MAX_DEPTH
        )  # within objects, too
    if len(body) > limit:
        raise InvalidRequest(field, f"is {len(body):,} bytes of JSON; the limit is {limit:,}")
    return body


def check_depth(field: str, value: object) -> None:
    """Raise InvalidRequest for a value read from JSON that has more than MAX_DEPTH levels."""
    if not is_surely_fine(value):
        raise InvalidRequest(field, TOO_DEEP)


def is_surely_fine(value: object) -> bool:
    """Return whether `value` surely has no NaN, no infinity and few levels: a quick check, of plain types only."""
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for parent in level:
            for child in parent.values() if type(parent) is dict else parent:
                kind = type(child)
                if kind is dict or kind is list:
                    below.append(child)
                elif (kind is float and not math.isfinite(child)) or kind not in PLAIN:
                    return False
        if not below:
            return True
        level = below
    return False


def _culprit(field: str, value: object) -> str:
    """Return the path to the innermost value that can't be encoded."""
    for _ in range(MAX_DEPTH):
        within = ((path, child) for path, child in _children(field, value) if not _is_encodable(child))
        inner = next(within, None)
        if inner is None:
            break
        field, value = inner
    return field


def _is_encodable(value: object) -> bool:
    try:
        to_json(value)
    except RecursionError:
        return True  # wrong too, but not the cause of the error to be explained
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _refuse_odd(field: str, value: object, levels: int) -> None:
    if isinstance(value, FORMLESS + FORMLESS_CONTAINERS):
        raise InvalidRequest(field, f"can't be JSON: it is a {type(value).__name__}, which has no form there")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(field, f"can't be JSON: {value} is not a number there")
    if isinstance(value, dict | list) and levels == 0:
        raise InvalidRequest(field.partition("[")[0].partition(".")[0], TOO_DEEP)
    for path, child in _children(field, value):
        _refuse_odd(path, child, levels - 1)


def _children(field: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield f"{field}.{key}", child
    elif isinstance(value, list | tuple):
        for at, child in enumerate(value):
            yield f"{field}[{at}]", child
    elif isinstance(value, msgspec.Struct):
        yield from ((f"{field}.{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from ((f"{field}.{each.name}", getattr(value, each.name, None)) for each in fields(value))
