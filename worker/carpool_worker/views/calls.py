"""Calls in real time: how many wait, are being made, and were lost, and how long they take, by account and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.policies.accounts import shown
from carpool_worker.states import CallState
from carpool_worker.store.reports import calls
from carpool_worker.units import DAY

HALF, MOST = 0.5, 0.95


@dataclass(slots=True)
class CallsView:
    """The calls of an account and a model; times are in seconds, None where none of the newest was answered."""

    account: str
    model: str
    queued: int = 0
    calling: int = 0
    lost: int = 0  # in the last day: may have been billed
    half_within: float | None = None
    most_within: float | None = None  # 95 % of the newest


def load(connection: sa.Connection, at: int) -> list[CallsView]:
    """Return the calls as of now, `at` in milliseconds since the epoch, by account and model; few rows are read."""
    found: dict[tuple[str, str], CallsView] = {}

    def of(account: str, model: str) -> CallsView:
        return found.setdefault((account, model), CallsView(shown(account or None), model))

    for one in calls.unfinished(connection):
        if one.state == CallState.CALLING:
            of(one.account, one.model).calling += one.calls
        else:
            of(one.account, one.model).queued += one.calls
    for one in calls.lost_since(connection, at - DAY):
        of(one.account, one.model).lost += one.calls
    times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for time in calls.newest_times(connection):
        times[time.account, time.model].append(time.seconds)
    for key, seconds in times.items():
        of(*key).half_within, of(*key).most_within = _within(seconds, HALF), _within(seconds, MOST)
    return [found[key] for key in sorted(found)]


def _within(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
