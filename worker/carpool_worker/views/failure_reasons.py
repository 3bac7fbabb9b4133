"""Why a request failed, in the API's words but without anything that its client wrote. Pure."""

from __future__ import annotations

import re

import msgspec

from carpool_worker.outside_text import cleaned

MOST_CHARACTERS = 400

QUOTED = re.compile(r"(?<![\w])'[^']*'(?!\w)|\"[^\"]*\"|`[^`]*`|“[^”]*”|‘[^’]*’")
"""What an error message quotes can be what the client wrote; the field and the rule stand outside the quotes."""

LEFT_OUT = "'…'"


class _Error(msgspec.Struct):
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


class _Errored(msgspec.Struct):
    error: _ErrorBody = msgspec.field(default_factory=_ErrorBody)


def reason_of(answer: bytes | None) -> str | None:
    """Return why a request failed, by its result as Anthropic or Carpool wrote it; None if that doesn't say."""
    try:
        message = msgspec.json.decode(answer or b"", type=_Errored).error.error.message
    except msgspec.DecodeError:
        return None
    said = cleaned(" ".join(message.split()), MOST_CHARACTERS)
    return QUOTED.sub(LEFT_OUT, said) or None
