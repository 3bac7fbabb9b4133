"""Metrics of the inbox, of requests and of deliveries. Pure. Labels are few: a model, a state, a host, never an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from carpool_worker.metrics.readings import Totals
from carpool_worker.states import FINAL_REQUEST_STATES
from carpool_worker.store.reports.metrics import NEWEST_TRIES, Tries
from carpool_worker.store.reports.status import Deliveries
from carpool_worker.views.vitals import Vitals

MOST_HOSTS = 20
"""Webhook hosts that get a label of their own; the others are counted together."""

OTHERS = "other"

Sample = tuple[Sequence[str], float]


def gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    """Return a metric that goes up and down; a sample is its labels' values and its value."""
    return _filled(GaugeMetricFamily(f"carpool_{name}", text, labels=labels), samples)


def counter(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    """Return a metric that never decreases; Prometheus appends _total to its name."""
    return _filled(CounterMetricFamily(f"carpool_{name}", text, labels=labels), samples)


def one(name: str, text: str, value: float | None) -> Metric:
    """Return a gauge without labels; it has no value if `value` is None."""
    return gauge(name, text, (), [] if value is None else [((), value)])


def of_vitals(vitals: Vitals) -> Iterator[Metric]:
    """Yield what Redis knows; a beat that has never run counts as silent forever."""
    yield one("inbox_requests", "Requests in the inbox.", vitals.inbox)
    yield one(
        "inbox_oldest_seconds",
        "Age of the oldest entry in the inbox; 0 if it is empty.",
        vitals.oldest_age or 0.0,
    )
    yield one(
        "quarantined_entries", "Inbox entries in quarantine, as they could not be read.", vitals.quarantined
    )
    refused = [((client,), number) for client, number in vitals.refused_messages.items()]
    text = "Messages that the Celery task carpool.enqueue refused, by client."
    yield counter("celery_refusals", text, ("client",), refused)
    silent = float("inf") if vitals.beat_age is None else vitals.beat_age
    yield one("beat_silent_seconds", "Time since beat's last tick; it ticks every second.", silent)


def of_totals(totals: Totals, at: int) -> Iterator[Metric]:
    """Yield the requests and deliveries that wait or have failed, by state; `at` is now, in ms since the epoch."""
    counted = [((row.state, str(row.attempt)), row.requests) for row in totals.requests]
    yield gauge(
        "requests",
        "Requests that wait, failed or were canceled, by state and attempt.",
        ("state", "attempt"),
        counted,
    )
    oldest: dict[str, int] = {}
    for row in totals.requests:
        if row.state not in FINAL_REQUEST_STATES and row.enqueued_at is not None:
            oldest[row.state] = min(row.enqueued_at, oldest.get(row.state, at))
    ages = [((state,), (at - since) / 1_000) for state, since in oldest.items()]
    yield gauge(
        "requests_oldest_seconds",
        "Time since the oldest unfinished request was enqueued, by state.",
        ("state",),
        ages,
    )
    yield gauge(
        "deliveries",
        "Deliveries that are not made, by state.",
        ("channel", "state"),
        totals.deliveries.items(),
    )


def of_deliveries(deliveries: Deliveries, tries: Iterable[Tries], at: int) -> Iterator[Metric]:
    """Yield the deliveries that are pending, and the outcomes of the last hour's attempts."""
    pending = [(("due",), deliveries.due.rows), (("retryable",), deliveries.retryable.rows)]
    yield gauge(
        "deliveries_pending", "Deliveries that are due, and those waiting to be retried.", ("state",), pending
    )
    late = 0.0 if deliveries.due.at is None else max(0.0, (at - deliveries.due.at) / 1_000)
    yield one("deliveries_due_seconds", "How long the most overdue delivery has been due.", late)
    yield one("deliveries_given_up", "Deliveries given up on and not replayed.", deliveries.dead)
    yield one(
        "deliveries_given_up_lately",
        "Deliveries given up on in the last hour and not replayed.",
        deliveries.dead_lately,
    )
    yield one(
        "endpoints_stopped", "Webhook URLs to which deliveries are stopped.", deliveries.stopped_endpoints
    )
    text = "Webhook URLs and queues that have taken no delivery for at least five minutes, though tried."
    yield one("endpoints_failing", text, deliveries.failing_endpoints)
    text = f"Delivery attempts in the last hour, among the newest {NEWEST_TRIES:,}, by host and outcome."
    yield gauge("delivery_tries_lately", text, ("host", "outcome"), _by_host(list(tries)))


def _by_host(tries: Sequence[Tries]) -> Iterator[Sample]:
    # Producers choose the hosts of URLs, so only the busiest get a label.
    sums = Counter[str]()
    for row in tries:
        sums[_host(row)] += row.tries
    named = {host for host, _ in sums.most_common(MOST_HOSTS)}
    counts = Counter[tuple[str, str]]()
    for row in tries:
        host = _host(row)
        counts[host if host in named else OTHERS, _outcome(row)] += row.tries
    yield from counts.items()


def _host(row: Tries) -> str:
    if row.channel != "webhook":
        return row.channel
    try:
        return urlsplit(row.target).hostname or OTHERS
    except ValueError:
        return OTHERS


def _outcome(row: Tries) -> str:
    if row.status is None:
        return "no answer" if row.failed else "delivered"
    return "delivered" if row.status < 300 else str(row.status)


def _filled(family: Metric, samples: Iterable[Sample]) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, value)  # type: ignore[attr-defined]
    return family
