"""Checks the params of a Messages API call that is to run in a batch.

Only what would certainly fail is refused; unknown keys pass through, as the API changes faster than this module.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import convert

from carpool.contract import MAX_PARAMS_BYTES, to_json
from carpool.encoding import TOO_DEEP, check_depth, encode, is_surely_fine
from carpool.exceptions import InvalidRequest
from carpool.misplaced import ELSEWHERE, check_places, warn_of_near_misses
from carpool.plain_params import has_answers, plain

ROLES = ("user", "assistant", "system")
"""The Messages API's roles (`MessageParam` of its SDK 2.12)."""

IMPOSSIBLE = frozenset({"stream", "speed", "store", "fallbacks"})
"""Keys with values that the Message Batches API does not support, according to its documentation."""

MAX_MODEL_LENGTH = 256

NUMBERS = frozenset({int, float})

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class _CacheControl(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: str
    ttl: str | None = None


class _TextBlock(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: NonEmpty
    text: str
    cache_control: _CacheControl | None = None


class _TextMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["user", "assistant", "system"]
    content: NonEmpty | Annotated[list[_TextBlock], msgspec.Meta(min_length=1)]


class _PlainParams(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The params that most requests have; `convert` finds out whether these do quicker than checks in Python would."""

    model: str
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    messages: Annotated[list[_TextMessage], msgspec.Meta(min_length=1)]
    system: str | list[_TextBlock] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_k: int | None = None


_decode_plain = msgspec.json.Decoder(_PlainParams).decode


def check_params(params: Any) -> bytes:
    """Return the params as JSON, of at most MAX_PARAMS_BYTES; that is what is sent to Anthropic.

    Raises InvalidRequest, naming the field and the rule, for what could only fail in a batch.
    """
    if _are_plain(params):
        try:
            body = to_json(params)
        except (ValueError, OverflowError):
            body = None  # what follows names the culprit
        if body is not None and len(body) <= MAX_PARAMS_BYTES:
            return body
    is_fine = type(params) is dict and is_surely_fine(params) and not has_answers(params)
    if not is_fine:
        params = plain(params)
    _check(params)
    warn_of_near_misses(params)
    return encode("params", params, MAX_PARAMS_BYTES, is_fine=is_fine)


def check_encoded(params: bytes | msgspec.Raw) -> str:
    """Check params that are a JSON object already, and are sent to Anthropic as they are; return their model.

    Raises InvalidRequest, naming the field and the rule, for what could only fail in a batch.
    """
    if memoryview(params).nbytes > MAX_PARAMS_BYTES:
        raise InvalidRequest("params", f"must have {MAX_PARAMS_BYTES:,} bytes at most")
    try:
        model = _decode_plain(params).model
    except msgspec.ValidationError:
        model = ""
    if is_model(model):
        return model
    try:
        decoded = msgspec.json.decode(params)
    except RecursionError:
        raise InvalidRequest("params", TOO_DEEP) from None
    check_depth("params", decoded)
    _check(decoded)
    return str(decoded["model"])


def _are_plain(params: object) -> bool:
    """Return whether the params certainly break no rule: a quick check, of what most requests have."""
    try:
        plain = convert(params, _PlainParams)
    except msgspec.ValidationError:
        return False
    # Members of an IntEnum, and Decimals, are converted too.
    return (
        type(params) is dict
        and type(plain.max_tokens) is int
        and (plain.temperature is None or type(params["temperature"]) in NUMBERS)
        and is_model(plain.model)
    )


def _check(params: object) -> None:
    if not isinstance(params, dict):
        raise InvalidRequest("params", "must be a dict or another mapping, as for the Messages API")
    if not ELSEWHERE.keys().isdisjoint(params):
        check_places(params)
    model = params.get("model")
    if not isinstance(model, str) or not is_model(model):
        raise InvalidRequest("model", "must be the name of a model, without spaces")
    max_tokens = params.get("max_tokens")
    if type(max_tokens) is not int or max_tokens < 1:
        raise InvalidRequest("max_tokens", "must be an integer of 1 or more")
    _check_messages(params.get("messages"))
    if not IMPOSSIBLE.isdisjoint(params):
        _check_possible(params)


@lru_cache(maxsize=1024)
def is_model(name: str) -> bool:
    """Return whether this can be the name of a model."""
    # Spaces separate the parts of a lane's name, and the name goes to logs and labels.
    return 0 < len(name) <= MAX_MODEL_LENGTH and name.isprintable() and " " not in name


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list | tuple) or not messages:
        raise InvalidRequest("messages", "must be a list of one message or more")
    for at, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest(f"messages[{at}]", "must be a dict with a role and a content")
        if message.get("role") not in ROLES:
            raise InvalidRequest(f"messages[{at}].role", "must be 'user', 'assistant' or 'system'")
        content = message.get("content")
        if not content or not isinstance(content, str):
            _check_blocks(at, content)


def _check_blocks(at: int, blocks: object) -> None:
    field = f"messages[{at}].content"
    if not isinstance(blocks, list | tuple) or not blocks:
        raise InvalidRequest(field, "must be a text that is not empty, or a list of one block or more")
    for number, block in enumerate(blocks):
        if not isinstance(block, dict):
            raise InvalidRequest(f"{field}[{number}]", "must be a dict with a type")
        kind = block.get("type")
        if not isinstance(kind, str) or not kind:
            raise InvalidRequest(f"{field}[{number}].type", "must be a string, such as 'text'")


def _check_possible(params: dict[str, object]) -> None:
    if params.get("speed") == "fast":
        raise InvalidRequest("speed", "must not be 'fast': a batch can't do that")
    for key in ("stream", "store", "fallbacks"):
        if params.get(key):
            raise InvalidRequest(key, "must not be set: a batch can't do that")
