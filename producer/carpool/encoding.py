"""JSON-able or not: the one place where values become JSON bytes, or an error that names the spot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from carpool.contract import to_json
from carpool.exceptions import InvalidRequest

PLAIN = frozenset({str, int, float, bool, type(None)})


def encode(field: str, value: object, limit: int) -> bytes:
    """Return `value` as JSON of at most `limit` bytes; `field` is its name in errors.

    Raises InvalidRequest for what JSON can't hold, NaN and infinities included (RFC 8259, section 6).
    """
    try:
        body = to_json(value)
    except RecursionError:
        raise InvalidRequest(field, "is nested too deeply, or contains itself") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(_culprit(field, value), f"can't be JSON: {error}") from None
    # msgspec writes NaN and infinities as null.
    if not _is_surely_finite(value):
        _refuse_non_finite(field, msgspec.to_builtins(value))
    if len(body) > limit:
        raise InvalidRequest(field, f"is {len(body):,} bytes of JSON; the limit is {limit:,}")
    return body


def _is_surely_finite(value: object) -> bool:
    """Whether there is no NaN and no infinity in `value`, by a quick look at plain types only."""
    unseen: list[Any] = [[value]]
    for parent in unseen:
        for child in parent.values() if type(parent) is dict else parent:
            kind = type(child)
            if kind is dict or kind is list:
                unseen.append(child)
            elif (kind is float and not math.isfinite(child)) or kind not in PLAIN:
                return False
    return True


def _culprit(field: str, value: object) -> str:
    """Return the path of the innermost value that can't be encoded."""
    for path, child in _children(field, value):
        try:
            to_json(child)
        except (TypeError, ValueError, OverflowError):
            return _culprit(path, child)
    return field


def _refuse_non_finite(field: str, value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(field, f"can't be JSON: {value} is not a number there")
    for path, child in _children(field, value):
        _refuse_non_finite(path, child)


def _children(field: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield f"{field}.{key}", child
    elif isinstance(value, list | tuple):
        for at, child in enumerate(value):
            yield f"{field}[{at}]", child
