"""How a request ended, as HTTP tells it: its Message, or the status of its error. Pure."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from carpool.answers import AnswerError
from carpool.contract import ABSENT, Answer
from carpool_worker.gateway.errors import GatewayError

STATUSES = {
    "invalid_request_error": 400,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""By the types of Anthropic's errors."""

UPSTREAM_KEY = "authentication_error"
"""The operator's key is refused: the caller's own is right, so it is no 401."""

OVER_BUDGET = ("budget_exceeded", "real_time_budget_exceeded")
"""Carpool's own: a budget of the key, or of its client, had no room, and is not waited for."""

EXPIRED, CANCELED = "expired", "canceled"

_decode_error = msgspec.json.Decoder(AnswerError).decode


def message_of(answer: Answer) -> bytes | None:
    """Return the Message, byte for byte as it came; None if the request ended without one."""
    if answer.outcome != "succeeded" or answer.message == ABSENT or answer.error != ABSENT:
        return None
    return bytes(answer.message)


def error_of(answer: Answer) -> GatewayError:
    """Return the error that a request without a Message ended with.

    No client is to repeat it by itself: Carpool has tried as often as makes sense, and what is tried again is paid for.
    """
    error = _decode_error(answer.error)
    status, kind = _status(answer.outcome, error.type)
    return GatewayError(status, error.message, kind=kind, should_retry=False)


def money_headers(answer: Answer) -> dict[str, str]:
    """Return the headers that tell what an answer cost, in dollars, and what its batch saved, where they are known."""
    if answer.cost is None:
        return {}
    headers = {"x-carpool-cost": answer.cost}
    if answer.list_price is not None:
        headers["x-carpool-saved"] = f"{Decimal(answer.list_price) - Decimal(answer.cost):f}"
    return headers


def _status(outcome: str, kind: str) -> tuple[int, str | None]:
    if outcome == EXPIRED or kind == EXPIRED:
        return 504, None
    if outcome == CANCELED or kind == CANCELED:
        return 409, None
    if kind == UPSTREAM_KEY:
        return 502, "api_error"
    if kind in OVER_BUDGET:
        return 402, "billing_error"
    status = STATUSES.get(kind)
    return (500, "api_error") if status is None else (status, kind)
