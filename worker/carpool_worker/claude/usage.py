"""Reads what a Message says of its model and its usage, field by field where it is not as the API writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from carpool_worker.money.costs import CacheCreation, Count, ServerTools, Tokens

TOTALS = ("input_tokens", "output_tokens")
"""The counts without which an answer can't be priced; all others may be missing or null, which means none."""

DETAILS = ("cache_creation_input_tokens", "cache_read_input_tokens")

Part = TypeVar("Part", CacheCreation, ServerTools)


class Message(msgspec.Struct, frozen=True, gc=False):
    """The fields of a Message that its price needs; without a model, its request's counts."""

    usage: Tokens
    model: str = ""


class _Message(msgspec.Struct, frozen=True, gc=False):
    model: Any = None
    usage: Any = None


class _Result(msgspec.Struct, frozen=True, gc=False):
    message: _Message


_decode = msgspec.json.Decoder(_Result).decode


def read_message(result: bytes) -> tuple[Message | None, bool]:
    """Return what can be read of a result's message, and whether that is all that its price needs.

    A relay may leave the model out, write a number as a float or as text, or null for none.
    """
    try:
        message = _decode(result).message
    except (msgspec.MsgspecError, RecursionError):
        return None, False
    model = message.model if isinstance(message.model, str) else ""
    if isinstance(message.usage, Mapping):
        tokens, is_whole = _tokens(message.usage)
    else:
        tokens, is_whole = Tokens(0, 0), False
    return Message(tokens, model), is_whole


def _tokens(usage: Mapping[str, Any]) -> tuple[Tokens, bool]:
    inp, out = (_count(usage.get(name)) for name in TOTALS)
    written, read = (_detail(usage.get(name)) for name in DETAILS)
    cache, of_cache = _part(CacheCreation, usage.get("cache_creation"))
    tools, of_tools = _part(ServerTools, usage.get("server_tool_use"))
    geo = usage.get("inference_geo")
    counts = (inp, out, written, read, *of_cache, *of_tools)
    is_whole = None not in counts and (geo is None or isinstance(geo, str))
    place = geo if isinstance(geo, str) else None
    return Tokens(inp or 0, out or 0, written or 0, read or 0, cache, tools, place), is_whole


def _part(kind: type[Part], given: Any) -> tuple[Part | None, list[int | None]]:
    if given is None:
        return None, []
    if not isinstance(given, Mapping):
        return None, [None]
    counts = {name: _detail(given.get(name)) for name in kind.__struct_fields__}
    return kind(**{name: count or 0 for name, count in counts.items()}), list(counts.values())


def _detail(given: Any) -> int | None:
    return 0 if given is None else _count(given)


def _count(given: Any) -> int | None:
    """Return a count, or None if it can't be read: 12, 12.0 and "12" can."""
    if given is None or isinstance(given, bool):
        return None
    try:
        return msgspec.convert(given, Count, strict=False)
    except msgspec.ValidationError:
        return None
