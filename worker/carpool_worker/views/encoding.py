"""Views for programs: the one step from typed values to JSON's own types, for `--json` and for HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, get_args, get_type_hints

from carpool_worker.formatting import time_of

_MOMENT = "moment"
Moment = Annotated[int, _MOMENT]
"""Milliseconds since the epoch; programs read it as RFC 3339, in UTC."""

FLAT = {"flat": True}
"""Metadata of a field whose object's fields stand beside the others, not in an object of their own."""


def plain(value: Any) -> Any:
    """Return a view as dicts, lists, texts and numbers.

    A dataclass becomes an object, a named tuple a list; moments become RFC 3339, dollars text with all their digits.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return _object(value)
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        moments = _moments(type(value))
        names = getattr(value, "_fields", ()) or [""] * len(value)
        return [
            _moment(one) if name in moments else plain(one) for name, one in zip(names, value, strict=True)
        ]
    if isinstance(value, Enum):
        return value.value
    return f"{value:f}" if isinstance(value, Decimal) else value


def _object(value: Any) -> dict[str, Any]:
    moments, found = _moments(type(value)), dict[str, Any]()
    for field in fields(value):
        one = getattr(value, field.name)
        if _is_flat(field):
            found |= plain(one) or {}
        else:
            found[field.name] = _moment(one) if field.name in moments else plain(one)
    return found


def _is_flat(field: Field[Any]) -> bool:
    return bool(field.metadata.get("flat"))


def _moment(at: int | None) -> str | None:
    return None if at is None else time_of(at)


def _moments(kind: type[Any]) -> frozenset[str]:
    """Return the names of the fields that are moments."""
    if kind not in _known:
        hints = get_type_hints(kind, include_extras=True) if hasattr(kind, "__annotations__") else {}
        moments = (name for name, hint in hints.items() if any(map(_is_moment, (hint, *get_args(hint)))))
        _known[kind] = frozenset(moments)
    return _known[kind]


def _is_moment(hint: Any) -> bool:
    return _MOMENT in getattr(hint, "__metadata__", ())


_known: dict[Any, frozenset[str]] = {}
