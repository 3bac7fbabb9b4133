"""Advice on deadlines that are paid for at the full price, and how much longer they would have to be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from carpool_worker.advisor.advice import Advice, SpendRate, subject
from carpool_worker.formatting import age, counted, exact, money
from carpool_worker.policies.deadlines import DeadlineRule
from carpool_worker.store.durations import LearnedDurations
from carpool_worker.store.reports.calls import UrgentCall
from carpool_worker.store.usage import REAL_TIME, UsageRow
from carpool_worker.units import SECOND, Milliseconds

LEAST_CALLS = 5
"""There is no advice on fewer."""

BATCH_SHARE = 0.5
"""Of the list price: what a batch costs."""

ROUNDED = 300
"""Seconds: advised deadlines are whole multiples of it."""

MOST_SPANS = 0.95
"""The share of the calls that an advised deadline would have kept in a batch."""

LONGER = (
    "Their deadlines were {given} in the median; batches of that time of day needed up to {needed}. With "
    "deadlines of {advised}, 95 % of them would have gone with a batch, for half."
)
LONG_ENOUGH = (
    "Their deadlines of {given} in the median were long enough for a batch ({needed}): they waited for room or for "
    'their turn. Look at queue_limit and submit_windows; deadline_policy="batch" never pays the full price.'
)


def advise(
    calls: Sequence[UrgentCall],
    used: Sequence[UsageRow],
    learned: LearnedDurations,
    rule: DeadlineRule,
    flush_interval: float,
    rate: SpendRate,
) -> Iterator[Advice]:
    """Yield advice for each client and model that paid for calls; `used` is by client, model and processing.

    `flush_interval` is in seconds: so long a request may wait for others before its batch is sent.
    """
    by_subject: defaultdict[tuple[str, str], list[UrgentCall]] = defaultdict(list)
    for call in calls:
        if call.deadline > call.enqueued_at:
            by_subject[call.client, call.model].append(call)
    for row in used:
        own = by_subject[row.client, row.model]
        if row.processing == REAL_TIME and row.is_priced and len(own) >= LEAST_CALLS:
            yield _advice(row, own, learned, rule, flush_interval, rate)


def _advice(
    row: UsageRow,
    own: Sequence[UrgentCall],
    learned: LearnedDurations,
    rule: DeadlineRule,
    flush_interval: float,
    rate: SpendRate,
) -> Advice:
    given = [(call.deadline - call.enqueued_at) / SECOND for call in own]
    needed = sorted(
        rule.calls_within(learned.of(call.model, Milliseconds(call.queued_at))) + flush_interval
        for call in own
    )
    most = needed[min(len(needed) - 1, int(len(needed) * MOST_SPANS))]
    advised = -(-int(most + 1) // ROUNDED) * ROUNDED
    too_much = round(row.cost - row.list_price * BATCH_SHARE)
    short = sum(one < most for one in given)
    how = LONGER if short * 2 >= len(given) else LONG_ENOUGH
    said = {"given": median(given), "needed": most, "advised": advised}
    paid, more = money(row.cost), money(too_much)
    paying = counted(row.requests, "request")
    return Advice(
        kind="short_deadlines",
        subject=subject(row.client, row.model),
        what=f"{paying} paid the full price for a deadline: {paid}, {more} more than in batches.",
        how=how.format(**{name: age(seconds * SECOND) for name, seconds in said.items()}),
        saves_per_month=rate.dollars(too_much),
        facts={
            "client": row.client,
            "model": row.model,
            "calls": row.requests,
            "paid": str(exact(row.cost)),
            "more_than_batches": str(exact(too_much)),
            "deadline_median": said["given"],
            "batches_need": most,
            "deadline_advised": advised if how is LONGER else None,
        },
    )
