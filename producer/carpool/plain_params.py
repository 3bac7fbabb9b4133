"""Params as plain dicts and lists: what a service has at hand goes into a request as it is.

Mappings of other kinds become dicts. The models of Anthropic's SDK, such as the blocks of an earlier answer, become
what the SDK itself sends for them (its `_utils/_json.py`). A whole answer, the SDK's Message or a Result, stands for a
message of the assistant or, as a `content`, for its blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from carpool.encoding import MAX_DEPTH
from carpool.exceptions import InvalidRequest
from carpool.results import Result

NO_MESSAGE = "is the Result of a request that has no message: it failed, or its answer is no longer kept"


def plain(params: Any) -> Any:
    """Return params with dicts and lists in place of what stands for them; raises InvalidRequest."""
    if not isinstance(params, Mapping):
        return params
    found = _plain(dict(params), 0)
    messages = found.get("messages")
    if isinstance(messages, list):
        found["messages"] = [_message(f"messages[{at}]", one) for at, one in enumerate(messages)]
    return found


def has_answers(params: dict[str, Any]) -> bool:
    """Return whether a message is a whole answer as the API words it."""
    messages = params.get("messages")
    return isinstance(messages, list) and any(
        isinstance(one, dict) and one.get("type") == "message" for one in messages
    )


def _plain(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH or isinstance(value, Result):
        return value  # the checks that follow refuse what is nested too deeply
    if isinstance(value, dict | Mapping):
        return {key: _plain(child, depth + 1) for key, child in value.items()}
    if isinstance(value, list) or type(value) is tuple:
        return [_plain(child, depth + 1) for child in value]
    if _is_model(value):
        left_out = getattr(value, "__api_exclude__", None)
        return value.model_dump(exclude_unset=True, mode="json", by_alias=True, exclude=left_out)
    return value


def _is_model(value: Any) -> bool:
    """Return whether this is a model of pydantic's, which need not be installed."""
    return hasattr(value, "model_dump") and hasattr(value, "model_fields_set") and not isinstance(value, type)


def _message(field: str, message: Any) -> Any:
    """Return a message; an answer as one of the assistant's, with nothing but its role and its blocks."""
    if isinstance(message, Result):
        return {"role": "assistant", "content": _blocks(field, message)}
    if not isinstance(message, dict):
        return message
    if message.get("type") == "message" and "role" in message:
        message = {"role": message["role"], "content": message.get("content")}
    if isinstance(message.get("content"), Result):
        return message | {"content": _blocks(f"{field}.content", message["content"])}
    return message


def _blocks(field: str, result: Result) -> Any:
    if result.message is None:
        raise InvalidRequest(field, NO_MESSAGE)
    return msgspec.to_builtins(result.message["content"])
