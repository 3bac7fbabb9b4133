"""Why a request failed is said, and nothing that its client wrote."""

from __future__ import annotations

import json

import pytest

from carpool_worker.views.failure_reasons import MOST_CHARACTERS, reason_of


def errored(message: str) -> bytes:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    return json.dumps({"type": "errored", "error": error}).encode()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("max_tokens: 99999 > 64000, which is the most", "max_tokens: 99999 > 64000, which is the most"),
        ("messages.0.role: 'My secret' isn't one of \"user\"", "messages.0.role: '…' isn't one of '…'"),
        ("tools.0.name: `SECRET`\n doesn’t match “^x$”", "tools.0.name: '…' doesn’t match '…'"),
        ("prompt is too long:\x00 210000 tokens", "prompt is too long:\ufffd 210000 tokens"),
        ("", None),
    ],
)
def test_the_field_and_the_rule_are_said_and_what_is_quoted_is_not(message: str, reason: str | None) -> None:
    assert reason_of(errored(message)) == reason


def test_a_long_reason_is_cut() -> None:
    assert len(reason_of(errored("x" * 10_000)) or "") == MOST_CHARACTERS


@pytest.mark.parametrize(
    "answer", [None, b"", b"nonsense", b"[]", b'{"type":"succeeded","message":{}}', b'{"error":[]}']
)
def test_what_is_no_error_has_no_reason(answer: bytes | None) -> None:
    assert reason_of(answer) is None
