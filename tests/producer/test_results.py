"""Results and webhooks: what a service reads of an answer."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from anthropic.types import Message

from carpool import (
    AnswerPruned,
    InvalidAnswer,
    InvalidSetting,
    InvalidSignature,
    RequestFailed,
    Result,
    webhooks,
)
from carpool.contract import mint_id

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + "A" * 32

MESSAGE = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [
        {"type": "thinking", "thinking": "…", "signature": "x"},
        {"type": "text", "text": "Posi"},
        {"type": "text", "text": "tive."},
    ],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 20, "output_tokens": 4},
}


def answer(**fields: Any) -> dict[str, Any]:
    return {
        "id": mint_id("tests"),
        "client": "tests",
        "model": "claude-haiku-4-5",
        "state": "completed",
        "outcome": "succeeded",
        "enqueued_at": "2026-08-01T12:00:00.250Z",
        "finished_at": "2026-08-01T12:30:00Z",
        **fields,
    }


def signed(body: bytes, *, secret: str = SECRET, age: float = 0.0) -> dict[str, str]:
    headers = webhooks.sign(body, "msg_1", secret, datetime.now(UTC) - timedelta(seconds=age))
    return {name.title(): value for name, value in headers.items()}


def delivery(**fields: Any) -> bytes:
    data = answer(**fields)
    return msgspec.json.encode({"type": "request.completed", "timestamp": data["finished_at"], "data": data})


def test_a_succeeded_result_reads_as_typed_values() -> None:
    result = Result.from_json(
        answer(
            message=MESSAGE,
            usage={"input_tokens": 20},
            cost="0.00004",
            list_price="0.00008",
            metadata={"a": 1},
        )
    )
    assert result.message == MESSAGE
    assert isinstance(result.sdk_message, Message)
    assert result.sdk_message.content[1].text == "Posi"  # type: ignore[union-attr]
    assert (result.text, result.error, result.metadata) == ("Positive.", None, {"a": 1})
    assert (result.cost, result.saved) == (Decimal("0.00004"), Decimal("0.00004"))
    assert result.usage is not None
    assert result.usage.input_tokens == 20
    assert result.finished_at - result.enqueued_at == timedelta(minutes=29, seconds=59.75)
    result.raise_for_error()


def test_without_the_sdk_only_its_own_message_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("carpool.results.import_module", absent)
    result = Result.from_json(answer(message=MESSAGE))
    assert result.message == MESSAGE
    with pytest.raises(ImportError, match=r"pip install 'carpool\[anthropic\]'"):
        _ = result.sdk_message
    assert Result.from_json(answer()).sdk_message is None
    assert importlib.import_module("anthropic")


def test_an_answer_that_is_no_longer_kept_is_an_error_of_its_own() -> None:
    result = Result.from_json(answer(error={"type": "answer_pruned", "message": "It is gone."}))
    with pytest.raises(AnswerPruned, match="answer_pruned: It is gone"):
        result.raise_for_error()


def test_a_failed_result_says_why() -> None:
    # Given
    error = {"type": "invalid_request_error", "message": "max_tokens: too large"}
    result = Result.from_json(msgspec.json.encode(answer(state="discarded", outcome="errored", error=error)))
    # Then
    assert (result.message, result.text, result.cost, result.saved) == (None, "", None, None)
    with pytest.raises(
        RequestFailed, match="errored: invalid_request_error: max_tokens: too large"
    ) as failure:
        result.raise_for_error()
    assert failure.value.result is result


def test_an_expired_result_needs_no_error() -> None:
    with pytest.raises(RequestFailed, match=r"expired$"):
        Result.from_json(answer(state="discarded", outcome="expired")).raise_for_error()


@pytest.mark.parametrize("data", [b"", b"[]", "nonsense", {"id": "x"}, {}])
def test_what_is_no_answer_is_refused(data: Any) -> None:
    with pytest.raises(InvalidAnswer, match="not an answer of Carpool"):
        Result.from_json(data)


def test_a_signed_delivery_is_its_result() -> None:
    body = delivery(metadata={"invoice": 42})
    assert webhooks.verify(body, signed(body), SECRET).metadata == {"invoice": 42}
    assert webhooks.verify(body, signed(body), [OTHER_SECRET, SECRET]).metadata == {"invoice": 42}


@pytest.mark.parametrize(
    ("age", "reason"), [(301.0, "too old"), (-301.0, "too new")], ids=["old", "from the future"]
)
def test_a_delivery_out_of_time_is_refused(age: float, reason: str) -> None:
    body = delivery()
    with pytest.raises(InvalidSignature, match=reason):
        webhooks.verify(body, signed(body, age=age), SECRET)


def test_a_delivery_that_was_changed_or_signed_by_another_is_refused() -> None:
    body = delivery()
    with pytest.raises(InvalidSignature, match="No matching signature"):
        webhooks.verify(body + b" ", signed(body), SECRET)
    with pytest.raises(InvalidSignature, match="No matching signature"):
        webhooks.verify(body, signed(body, secret=OTHER_SECRET), SECRET)


@pytest.mark.parametrize(
    "change",
    [
        {"Webhook-Id": ""},
        {"Webhook-Timestamp": "yesterday"},
        {"Webhook-Timestamp": "1e400"},
        {"Webhook-Timestamp": "nan"},
        {"Webhook-Signature": "v1"},
        {"Webhook-Signature": "v1,a,b"},
        {"Webhook-Signature": "v1,é"},
        {"Webhook-Signature": "v1,!"},
        {"Webhook-Signature": "v2,abcd"},
        {"Webhook-Signature": 7},
    ],
)
def test_malformed_headers_are_a_bad_signature_and_nothing_else(change: dict[str, Any]) -> None:
    body = delivery()
    with pytest.raises(InvalidSignature):
        webhooks.verify(body, signed(body) | change, SECRET)


def test_no_headers_and_bytes_that_are_no_text_are_a_bad_signature() -> None:
    for body, headers in ((delivery(), {}), (b"\xff\xfe", signed(b"{}"))):
        with pytest.raises(InvalidSignature):
            webhooks.verify(body, headers, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!", []])
def test_a_secret_that_is_none_is_refused_as_a_setting(secret: Any) -> None:
    with pytest.raises(InvalidSetting, match="secret: must be"):
        webhooks.verify(delivery(), {}, secret)


def test_a_signed_body_of_another_shape_is_no_answer() -> None:
    for body in (b"{}", b"nonsense"):
        with pytest.raises(InvalidAnswer):
            webhooks.verify(body, signed(body), SECRET)
