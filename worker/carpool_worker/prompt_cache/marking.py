"""Marks the prefix of a request's params for the cache, and changes nothing else. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from carpool_worker.prompt_cache.prefixes import MARK, prefix_of

CACHE_CONTROL = msgspec.Raw(b'{"type":"ephemeral","ttl":"1h"}')
"""An hour: a batch takes longer than the default of five minutes."""

MARK_BYTES = 80
"""The most that a mark adds to the params: a text becomes a list of one block, with its cache_control."""

Fields = dict[str, msgspec.Raw]


class _Part(msgspec.Struct):
    """The fields of a block of `system`, or of a tool, that decide whether it can be marked."""

    type: str = ""
    text: str = ""
    defer_loading: bool | None = None


def mark(params: bytes, prefixes: Collection[str]) -> bytes:
    """Return the params with a cache_control of an hour at the end of their prefix, if that is one of `prefixes`.

    Every other value stays as it is, byte for byte. Params that can't be marked are returned unchanged.
    """
    if prefix_of(params) not in prefixes:
        return params
    return _marked(params) or params


def can_be_marked(params: bytes) -> bool:
    """Return whether `mark` finds a place: a text in `system`, or else a tool whose loading is not deferred."""
    return MARK not in params and _marked(params) is not None


def _marked(params: bytes) -> bytes | None:
    try:
        fields = msgspec.json.decode(params, type=Fields)
        changed = _system(fields) or _tools(fields)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return msgspec.json.encode(fields | changed) if changed else None


def _system(fields: Fields) -> Fields | None:
    system = bytes(fields.get("system", b""))
    if not system.startswith(b'"'):
        return _last(fields, "system", _is_text)
    block = {"type": "text", "text": fields["system"], "cache_control": CACHE_CONTROL}
    return {"system": msgspec.Raw(msgspec.json.encode([block]))} if system != b'""' else None


def _tools(fields: Fields) -> Fields | None:
    return _last(fields, "tools", lambda tool: not tool.defer_loading)


def _is_text(block: _Part) -> bool:
    return block.type == "text" and block.text != ""  # the API refuses to cache an empty one


def _last(fields: Fields, name: str, can_carry: Callable[[_Part], bool]) -> Fields | None:
    """Return the field with a mark on the last of its parts that can carry one; None if none can."""
    parts = msgspec.json.decode(fields.get(name, b"[]"), type=list[Fields])
    for part in reversed(parts):
        if can_carry(msgspec.json.decode(msgspec.json.encode(part), type=_Part)):
            part["cache_control"] = CACHE_CONTROL
            return {name: msgspec.Raw(msgspec.json.encode(parts))}
    return None
