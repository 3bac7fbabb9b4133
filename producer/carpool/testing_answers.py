"""Answers for tests, in the shape that the worker delivers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from carpool.answers import REASONS
from carpool.contract import ABSENT, Answer, Envelope, Usage, to_json
from carpool.webhooks import delivery_body, sign


def succeeded(envelope: Envelope, text: str, usage: Usage | None, cost: str | None) -> Answer:
    """Return the answer to a request whose message is this text; `cost` is in dollars, as a decimal string."""
    usage = usage or Usage(input_tokens=1, output_tokens=1)
    message = {
        "id": f"msg_{envelope.id}",
        "type": "message",
        "role": "assistant",
        "model": envelope.model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    body = msgspec.Raw(to_json(message))
    return _answer(envelope, "completed", outcome="succeeded", message=body, usage=usage, cost=cost)


def failed(envelope: Envelope, kind: str, message: str, outcome: str) -> Answer:
    """Return the answer to a request that ended without a message: errored, canceled or expired."""
    error = msgspec.Raw(to_json({"type": kind, "message": message}))
    state = "canceled" if outcome == "canceled" else "discarded"
    return _answer(envelope, state, outcome=outcome, error=error)


def canceled(envelope: Envelope) -> Answer:
    """Return the answer to a request that was canceled before it was sent."""
    return failed(envelope, "canceled", REASONS["canceled"], "canceled")


def signed_webhook(answer: Answer, secret: str) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a delivery, signed now."""
    body = delivery_body(answer.state, answer.finished_at, to_json(answer))
    return body, sign(body, answer.id, secret, datetime.now(UTC))


def _answer(envelope: Envelope, state: str, **ending: Any) -> Answer:
    return Answer(
        id=envelope.id,
        client=envelope.client,
        model=envelope.model,
        state=state,
        metadata=ABSENT if envelope.metadata is None else msgspec.Raw(envelope.metadata),
        batch_id="msgbatch_in_memory",
        enqueued_at=_rfc3339(datetime.fromtimestamp(envelope.enqueued_at / 1000, UTC)),
        finished_at=_rfc3339(datetime.now(UTC)),
        **ending,
    )


def _rfc3339(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
