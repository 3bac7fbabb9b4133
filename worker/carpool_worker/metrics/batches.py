"""Makes metrics of batches and of what they cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric

from carpool_worker.metrics.families import OTHERS, Sample, counter, gauge, one
from carpool_worker.metrics.readings import STAY_BOUNDS, Seen
from carpool_worker.store.reports.metrics import OUTCOMES, Gone, Standing, Stay
from carpool_worker.store.usage import Used
from carpool_worker.units import DOLLAR

MOST_CLIENTS = 200
"""Clients and models together that are told apart in the ledger; where there are more, clients are not."""

TOKENS = ("input", "output", "cache_write", "cache_read")


def of_batches(seen: Seen, at: int) -> Iterator[Metric]:
    """Return how the batches stand; `at` is now, in milliseconds since the epoch."""
    yield from _standing(seen.standings, at)
    yield one(
        "batches_in_doubt", "Batches whose post had no answer: perhaps Anthropic has them.", seen.in_doubt
    )
    yield one("batches_lost", "Those in doubt for longer than it can take to know.", seen.lost)
    yield one("batches_overdue", "Batches that Anthropic should have ended.", seen.overdue)
    refused = [((row.model, row.status), row.times) for row in seen.refused]
    text = "Posts that did not make a batch for sure, by status; none: no answer, offline, paced: not asked."
    yield counter("refusals", text, ("model", "status"), refused)
    yield one("queued_requests", "Requests in batches that are at Anthropic, or may be.", seen.queued)
    yield one("queue_limit", "As many requests may be there: the setting queue_limit.", seen.queue_limit)
    text = "How long submit_windows are closed at a stretch, at most, in the next two weeks."
    yield one("submit_windows_closed_seconds", text, seen.longest_closed)
    paused = [
        ((lane, "operator" if row.by_operator else "carpool"), 1.0) for lane, row in seen.pauses.items()
    ]
    yield gauge(
        "lane_paused", "Lanes from which nothing is submitted, by who paused them.", ("lane", "by"), paused
    )
    yield from _gone(seen.gone)
    yield _stayed(seen.stays)


def of_usage(used: Iterable[Used]) -> Iterator[Metric]:
    """Return the ledger: what is unpriced adds nothing, and is counted apart."""
    rows, per = _bounded(list(used)), ("client", "model")
    requests = [((row.client, row.model), row.requests) for row in rows]
    yield counter("usage_requests", "Answers that were billed.", per, requests)
    unpriced = [((row.client, row.model), row.unpriced) for row in rows if row.unpriced]
    yield counter("usage_unpriced_requests", "Those without a known price.", per, unpriced)
    tokens = [
        ((row.client, row.model, kind), getattr(row, f"{kind}_tokens")) for row in rows for kind in TOKENS
    ]
    yield counter("tokens", "Tokens by kind.", (*per, "kind"), tokens)
    for name, text in {
        "cost": "What was paid",
        "list_price": "What it would have cost one by one",
        "saved": "What batches saved",
    }.items():
        priced = [((row.client, row.model), getattr(row, name) / DOLLAR) for row in rows if row.is_priced]
        yield counter(f"{name}_dollars", f"{text}, in US dollars.", per, priced)


def _standing(standings: Sequence[Standing], at: int) -> Iterator[Metric]:
    per = ("state", "model")
    rows = [((row.state.value, row.model), row) for row in standings]
    batches = [(key, row.batches) for key, row in rows]
    yield gauge("batches", "Batches that are not finished.", per, batches)
    yield gauge("batches_requests", "Requests in them.", per, [(key, row.requests) for key, row in rows])
    ages = [(key, (at - row.opened_at) / 1_000) for key, row in rows]
    yield gauge("batches_oldest_seconds", "Time since the oldest of them was opened.", per, ages)


def _gone(gone: Sequence[Gone]) -> Iterator[Metric]:
    finished: list[Sample] = [
        ((state, row.model), getattr(row, state)) for row in gone for state in ("completed", "rejected")
    ]
    yield counter("batches_finished", "Batches that are finished.", ("state", "model"), finished)
    results = [((name, row.model), getattr(row, name)) for row in gone for name in OUTCOMES]
    yield counter("results", "Results of batches, by outcome.", ("outcome", "model"), results)
    posts = [((row.model,), row.submissions) for row in gone]
    yield counter("submissions", "Posts of batches, and tries to.", ("model",), posts)


def _stayed(stays: Iterable[Stay]) -> Metric:
    text = "How long finished batches were in each state."
    family = HistogramMetricFamily("carpool_batch_state_seconds", text, labels=("state",))
    bounds = [str(bound) for bound in STAY_BOUNDS]
    for stay in stays:
        buckets = [*zip(bounds, stay.within, strict=True), ("+Inf", stay.batches)]
        family.add_metric([stay.state.value], buckets, stay.milliseconds / 1_000)
    return family


def _bounded(rows: Sequence[Used]) -> Sequence[Used]:
    # Producers choose the names of clients: they must not fill Prometheus.
    if len(rows) <= MOST_CLIENTS:
        return rows
    sums: dict[str, Used] = {}
    for row in rows:
        total = sums.setdefault(row.model, Used("", OTHERS, row.model))
        for name in ("requests", "unpriced", "cost", "list_price", *(f"{kind}_tokens" for kind in TOKENS)):
            setattr(total, name, getattr(total, name) + getattr(row, name))
    return list(sums.values())
