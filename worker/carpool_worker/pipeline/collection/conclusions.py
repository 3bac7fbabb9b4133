"""Decides from a batch's result lines what becomes of its requests. Pure: the collector commits it.

Only the envelope and `usage` are parsed; an answer's bytes are kept as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from carpool.answers import error_type
from carpool_worker.claude.results import SUCCEEDED, ReadResult
from carpool_worker.claude.usage import Message
from carpool_worker.exceptions import LONGEST_NAME
from carpool_worker.money.costs import price_of
from carpool_worker.money.prices import Price
from carpool_worker.outside_text import cleaned
from carpool_worker.policies.retries import CollectPolicy, after_outcome, retry_delay
from carpool_worker.states import COMPLETE, RESCHEDULE
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.rows import Pending
from carpool_worker.store.requests.segments import Terms
from carpool_worker.store.requests.staging import Rescheduled
from carpool_worker.store.usage import IN_BATCH, REAL_TIME, UsageRow
from carpool_worker.units import DOLLAR, Milliseconds, after


@dataclass(slots=True)
class Conclusions:
    """What follows from some results: requests that ended, requests to try again, and what was used."""

    processing: str = IN_BATCH
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
    results: Mapping[str, ReadResult],
    waiting: Iterable[Pending],
    policy: CollectPolicy,
    *,
    day: date,
    at: Milliseconds,
    stopped: bool = False,
    processing: str = IN_BATCH,
) -> Conclusions:
    """Decide what becomes of each waiting request; `results` has each one's result by its id.

    `day` (UTC) is that of the prices, `at` is now in milliseconds since the epoch, `stopped` tells that the batch was
    canceled at Anthropic's console, `processing` how they are billed.
    """
    conclusions = Conclusions(processing)
    for request in waiting:
        _conclude(conclusions, request, results[request.id], policy, day, at, stopped)
    return conclusions


def _conclude(
    conclusions: Conclusions,
    request: Pending,
    found: ReadResult,
    policy: CollectPolicy,
    day: date,
    at: Milliseconds,
    stopped: bool,
) -> None:
    body, result = found.body, found.parsed
    kind = None if result.type == SUCCEEDED else _error_type(body, result.type)
    attempt = 0 if stopped and result.type == "canceled" else request.attempt
    transition = after_outcome(result.type, kind, attempt, policy.max_attempts)
    if transition is RESCHEDULE and not request.cancel_requested_at:
        delay = retry_delay(result.type, request.attempt, policy.retry_interval)
        conclusions.rescheduled.append(Rescheduled(request.id, result.type, after(at, delay), kind))
        return
    if transition is COMPLETE and result.message:
        end = _priced(conclusions, request, result.message, found, day)
    else:
        end = Ending.unanswered(request, transition, result.type, body, kind)
    if request.cancel_requested_at:
        end = end.expired() if request.has_expired else end.dropped()
    conclusions.endings.append(end)


def _priced(
    conclusions: Conclusions, request: Pending, message: Message, found: ReadResult, day: date
) -> Ending:
    price = priced(found, message, request.terms, day, conclusions.processing)
    _use(conclusions, request.terms, day).add(message.usage, price, request.reserved or 0)
    return Ending.succeeded(request, found.body, message.usage, price)


def priced(found: ReadResult, message: Message, terms: Terms, day: date, processing: str) -> Price | None:
    """Return what an answer cost, or None if nobody knows."""
    if not found.is_countable:
        return None
    price = price_of(message.usage, message.model, day) or price_of(message.usage, terms.model, day)
    return price.in_full if price and processing == REAL_TIME else price


def second_use(found: ReadResult, message: Message, terms: Terms, day: date, processing: str) -> UsageRow:
    """Return what an answer used to a request that had one already: it is paid for, and saves nothing."""
    used = _new_row(terms, day, processing)
    price = priced(found, message, terms, day, processing)
    used.add(message.usage, price and price.without_use)
    return used


def _use(conclusions: Conclusions, terms: Terms, day: date) -> UsageRow:
    key = terms.client, terms.model, terms.account or "", terms.gateway_key or ""
    used = conclusions.used.get(key)
    if used is None:
        used = conclusions.used[key] = _new_row(terms, day, conclusions.processing)
    return used


def _new_row(terms: Terms, day: date, processing: str) -> UsageRow:
    return UsageRow(
        day.isoformat(),
        terms.client,
        terms.model,
        account=terms.account or "",
        gateway_key=terms.gateway_key or "",
        processing=processing,
    )


def _error_type(body: bytes, outcome: str) -> str | None:
    kind = error_type(body)
    return None if kind == outcome else cleaned(kind, LONGEST_NAME)  # then the outcome says it all
