"""Decides from a batch's result lines what becomes of its requests. Pure: the collector commits it.

Only the envelope and `usage` are parsed; an answer's bytes are kept as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated

import msgspec

from carpool_worker.money.costs import Tokens, price_of
from carpool_worker.policies.retries import CollectPolicy, after_outcome, retry_delay
from carpool_worker.states import COMPLETE, RESCHEDULE
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.rows import Pending
from carpool_worker.store.requests.staging import Rescheduled
from carpool_worker.store.usage import UsageRow
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import DOLLAR, Milliseconds, after

log = get_logger(__name__)

Outcome = Annotated[str, msgspec.Meta(pattern=r"\A[a-z_]{1,40}\Z")]
"""Anthropic's word for what became of a request; new ones may come."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """The fields of a Message that its price needs."""

    model: str
    usage: Tokens


class ErrorDetail(msgspec.Struct, frozen=True, gc=False):
    """The API's error type."""

    type: str = "unknown"


class ErrorEnvelope(msgspec.Struct, frozen=True, gc=False):
    """An error inside a result."""

    error: ErrorDetail = ErrorDetail()


class ResultKind(msgspec.Struct, frozen=True, gc=False):
    """The one field that every result needs; if the others can't be read, it is read alone."""

    type: Outcome


class ParsedResult(msgspec.Struct, frozen=True, gc=False):
    """The fields of a result that decide what becomes of its request."""

    type: Outcome
    message: Message | None = None
    error: ErrorEnvelope | None = None


decode_result = msgspec.json.Decoder(ParsedResult).decode
decode_kind = msgspec.json.Decoder(ResultKind).decode


@dataclass(slots=True)
class Conclusions:
    """What follows from some results: requests that ended, requests to try again, and what was used."""

    endings: list[Ending] = field(default_factory=list)
    rescheduled: list[Rescheduled] = field(default_factory=list)
    used: dict[tuple[str, ...], UsageRow] = field(default_factory=dict)

    @property
    def is_priced(self) -> bool:
        """Whether the price of any of them is known; if none is, the cost is unknown, not zero."""
        return any(used.is_priced for used in self.used.values())

    @property
    def cost(self) -> Decimal:
        """Dollars that these results cost."""
        return Decimal(sum(used.cost for used in self.used.values())) / DOLLAR

    @property
    def list_price(self) -> Decimal:
        """Dollars that the same answers would have cost outside a batch."""
        return Decimal(sum(used.list_price for used in self.used.values())) / DOLLAR


def conclude(
    results: Mapping[str, bytes],
    waiting: Iterable[Pending],
    policy: CollectPolicy,
    *,
    day: date,
    at: Milliseconds,
) -> Conclusions:
    """Decide what becomes of each waiting request; `results` has each one's result by its id.

    `day` (UTC) is that of the prices, `at` is now in milliseconds since the epoch. A result that can't be read at all
    is logged, and its request stays waiting.
    """
    conclusions = Conclusions()
    for request in waiting:
        try:
            _conclude(conclusions, request, results[request.id], policy, day, at)
        except (msgspec.MsgspecError, RecursionError) as error:
            log.error("result unreadable", request=request.id, error=str(error))
    return conclusions


def _conclude(
    conclusions: Conclusions,
    request: Pending,
    body: bytes,
    policy: CollectPolicy,
    day: date,
    at: Milliseconds,
) -> None:
    result = _read(request.id, body)
    error_type = result.error.error.type if result.error else None
    transition = after_outcome(result.type, error_type, request.attempt, policy.max_attempts)
    if transition is RESCHEDULE and not request.cancel_requested_at:
        delay = retry_delay(result.type, request.attempt, policy.retry_interval)
        conclusions.rescheduled.append(Rescheduled(request.id, result.type, after(at, delay)))
        return
    if transition is COMPLETE and result.message:
        end = _priced(conclusions, request, result.message, body, day)
    else:
        end = Ending(
            request.id, request.client, transition, result.type, body, request.callback, error=error_type
        )
    conclusions.endings.append(end.dropped() if request.cancel_requested_at else end)


def _read(request_id: str, body: bytes) -> ParsedResult:
    # A paid answer must not be lost because of a field that only its price needs.
    try:
        return decode_result(body)
    except msgspec.ValidationError as error:
        kind = decode_kind(body)
        log.error("usage or error of a result unreadable", request=request_id, error=str(error))
        return ParsedResult(kind.type)


def _priced(conclusions: Conclusions, request: Pending, message: Message, body: bytes, day: date) -> Ending:
    tokens = message.usage
    terms = request.terms
    price = price_of(tokens, message.model, day) or price_of(tokens, terms.model, day)
    key = terms.client, terms.model, terms.account or "", terms.gateway_key or ""
    used = conclusions.used.get(key)
    if used is None:
        client, model, account, gateway_key = key
        used = UsageRow(day.isoformat(), client, model, account=account, gateway_key=gateway_key)
        conclusions.used[key] = used
    used.add(tokens, price)
    return Ending.succeeded(request, body, tokens, price)
