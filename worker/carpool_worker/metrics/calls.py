"""Metrics of calls in real time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from carpool_worker.metrics.families import Sample, counter, gauge
from carpool_worker.store.usage import REAL_TIME, UsageRow
from carpool_worker.views.calls import CallsView


def of_calls(calls: Sequence[CallsView], used: Sequence[UsageRow]) -> Iterator[Metric]:
    """Yield how calls stand, and, from the ledger by model and processing, how many were answered."""
    per = ("account", "model")
    standing: list[Sample] = [
        ((state, one.account, one.model), count)
        for one in calls
        for state, count in (("queued", one.queued), ("calling", one.calling))
    ]
    text = "Requests that are to be called in real time, or are being called."
    yield gauge("calls", text, ("state", *per), standing)
    text = "Calls in real time whose answer was lost in the last 24 hours: they may have been billed."
    yield gauge("calls_lost_in_a_day", text, per, [((one.account, one.model), one.lost) for one in calls])
    text = "Answers of calls in real time, billed at the full price."
    answered = [((one.model,), one.requests) for one in used if one.processing == REAL_TIME]
    yield counter("calls_answered", text, ("model",), answered)
    seconds: list[Sample] = [
        ((one.account, one.model, name), value)
        for one in calls
        for name, value in (("0.5", one.half_within), ("0.95", one.most_within))
        if value is not None
    ]
    text = "Time within which so many of the newest calls in real time were answered."
    yield gauge("call_seconds", text, (*per, "quantile"), seconds)
