"""Metrics of batches and of what they cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric

from carpool_worker.metrics.families import OTHERS, Sample, counter, gauge, one
from carpool_worker.metrics.readings import Readings
from carpool_worker.policies.accounts import shown
from carpool_worker.states import OUTCOMES
from carpool_worker.store.batches.totals import STAY_BOUNDS, Gone, Stay
from carpool_worker.store.reports.metrics import ModelBatchCounts
from carpool_worker.store.usage import UsageRow
from carpool_worker.units import DOLLAR
from carpool_worker.views.durations import DurationView

MOST_CLIENTS = 200
"""Pairs of client and model that get labels of their own; beyond that, clients are counted together."""

TOKENS = ("input", "output", "cache_write", "cache_read")


def of_batches(readings: Readings, at: int) -> Iterator[Metric]:
    """Yield the state of the batches; `at` is now, in milliseconds since the epoch."""
    yield from _standing(readings.standings, at)
    yield from _troubles(readings)
    yield from _limits(readings)
    yield from _gone(readings.gone)
    yield _stayed(readings.stays)
    yield _expected(readings.durations)


def of_usage(used: Iterable[UsageRow]) -> Iterator[Metric]:
    """Yield the usage ledger; unpriced answers add no cost and are counted apart."""
    rows, per = _bounded(list(used)), ("client", "model")
    requests = [((row.client, row.model), row.requests) for row in rows]
    yield counter("usage_requests", "Requests that were answered and billed.", per, requests)
    unpriced = [((row.client, row.model), row.unpriced) for row in rows if row.unpriced]
    yield counter("usage_unpriced_requests", "Billed requests whose price is unknown.", per, unpriced)
    tokens = [
        ((row.client, row.model, kind), getattr(row, f"{kind}_tokens")) for row in rows for kind in TOKENS
    ]
    yield counter("tokens", "Tokens billed, by kind.", (*per, "kind"), tokens)
    for name, text in {
        "cost": "What was paid",
        "list_price": "What the same requests would have cost one by one",
        "saved": "What batching saved",
    }.items():
        priced = [((row.client, row.model), getattr(row, name) / DOLLAR) for row in rows if row.is_priced]
        yield counter(f"{name}_dollars", f"{text}, in US dollars.", per, priced)


def _expected(learned: Iterable[DurationView]) -> Metric:
    """What deadlines are planned by."""
    samples = [((one.model, "0.5"), one.half_within) for one in learned]
    samples += [((one.model, "0.95"), one.most_within) for one in learned]
    text = "Time within which so many of a model's batches end that are posted in this hour of the day, as learned."
    return gauge("batches_expected_seconds", text, ("model", "quantile"), samples)


def of_periods(used: Mapping[str, Sequence[UsageRow]]) -> Iterator[Metric]:
    """Yield what this day and this month have cost so far, by the name of the period.

    They are gauges, to the last cent: what increase() makes of a counter lacks the first sample of each series.
    """
    for name, text in {"cost": "What was paid", "saved": "What batching saved"}.items():
        samples = [
            ((period, row.client, row.model), getattr(row, name) / DOLLAR)
            for period, rows in used.items()
            for row in _bounded(rows)
            if row.is_priced
        ]
        described = f"{text} so far in this period (UTC), in US dollars."
        yield gauge(f"period_{name}_dollars", described, ("period", "client", "model"), samples)


def _standing(standings: Sequence[ModelBatchCounts], at: int) -> Iterator[Metric]:
    per = ("state", "model")
    rows = [((row.state.value, row.model), row) for row in standings]
    batches = [(key, row.batches) for key, row in rows]
    yield gauge("batches", "Unfinished batches, by state.", per, batches)
    yield gauge(
        "batches_requests", "Requests in unfinished batches.", per, [(key, row.requests) for key, row in rows]
    )
    ages = [(key, (at - row.opened_at) / 1_000) for key, row in rows]
    yield gauge(
        "batches_oldest_seconds",
        "Time since the oldest unfinished batch in this state was opened.",
        per,
        ages,
    )


def _troubles(readings: Readings) -> Iterator[Metric]:
    text = "Batches whose post got no answer, so that Anthropic may or may not have them."
    yield one("batches_in_doubt", text, readings.in_doubt)
    text = "Batches that have been in doubt for longer than resolving it can take."
    yield one("batches_lost", text, readings.lost)
    text = (
        "Batches at Anthropic with requests of ours that another batch has, too: they may be paid for twice."
    )
    yield counter("batches_posted_twice", text, (), [((), readings.orphans)])
    text = "Requests that such a batch has answered, besides their own: they were paid for there, too."
    yield counter("requests_run_twice", text, (), [((), readings.run_twice)])
    yield one("batches_overdue", "Batches that Anthropic should have ended by now.", readings.overdue)
    text = "Batches that no API key of their account may see: is the key of another workspace?"
    hidden = [((shown(account),), row.batches) for account, row in readings.unseen.items()]
    yield gauge("batches_unseen", text, ("account",), hidden)
    refused = [((row.model, row.status), row.times) for row in readings.refused]
    text = "Posts not known to have created a batch, by status; none: no answer; offline, paced: not sent."
    yield counter("refusals", text, ("model", "status"), refused)


def _limits(readings: Readings) -> Iterator[Metric]:
    queues = readings.queues.items()
    queued = [((account,), queue.requests) for account, queue in queues]
    text = "Requests in batches that Anthropic has, or may have, by account."
    yield gauge("queued_requests", text, ("account",), queued)
    text = "How many requests an account may have queued at Anthropic: the setting queue_limit."
    yield gauge("queue_limit", text, ("account",), [((account,), queue.limit) for account, queue in queues])
    text = "The longest that submit_windows stay closed at a stretch in the next two weeks."
    yield one("submit_windows_closed_seconds", text, readings.longest_closed)
    pauses = readings.pauses.items()
    paused = [((lane, "operator" if row.is_by_hand else "carpool"), 1.0) for lane, row in pauses]
    text = "1 for each paused lane, from which nothing is submitted, by who paused it."
    yield gauge("lane_paused", text, ("lane", "by"), paused)


def _gone(gone: Sequence[Gone]) -> Iterator[Metric]:
    finished: list[Sample] = [
        ((state, row.model), getattr(row, state)) for row in gone for state in ("completed", "rejected")
    ]
    yield counter("batches_finished", "Finished batches, by final state.", ("state", "model"), finished)
    results = [((name, row.model), getattr(row, name)) for row in gone for name in OUTCOMES]
    yield counter("results", "Results of batches, by outcome.", ("outcome", "model"), results)
    posts = [((row.model,), row.submissions) for row in gone]
    yield counter("submissions", "Attempts to submit a batch.", ("model",), posts)


def _stayed(stays: Iterable[Stay]) -> Metric:
    text = "How long finished batches spent in each state."
    family = HistogramMetricFamily("carpool_batch_state_seconds", text, labels=("state",))
    bounds = [str(float(bound)) for bound in STAY_BOUNDS]
    for stay in stays:
        buckets = [*zip(bounds, stay.within, strict=True), ("+Inf", stay.batches)]
        family.add_metric([stay.state.value], buckets, stay.milliseconds / 1_000)
    return family


def _bounded(rows: Sequence[UsageRow]) -> Sequence[UsageRow]:
    # Producers choose the names of clients, which must not flood Prometheus.
    if len(rows) <= MOST_CLIENTS:
        return rows
    sums: dict[str, UsageRow] = {}
    for row in rows:
        total = sums.setdefault(row.model, UsageRow("", OTHERS, row.model))
        for name in ("requests", "unpriced", "cost", "list_price", *(f"{kind}_tokens" for kind in TOKENS)):
            setattr(total, name, getattr(total, name) + getattr(row, name))
    return list(sums.values())
