"""Examines the lanes: which are paused, by whom, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sqlalchemy as sa

from carpool_worker.database import now, read
from carpool_worker.doctor.findings import Finding, warning, wrong
from carpool_worker.formatting import age
from carpool_worker.models import LanePause
from carpool_worker.store.batches import lane_pauses
from carpool_worker.views.alerts import AlertKind

CHECK = "lanes"


def examine(engine: sa.Engine) -> Iterator[Finding]:
    """Ask the database which lanes are paused, and judge each."""
    with read(engine) as connection:
        paused = lane_pauses.by_lane(connection)
    yield from judge(paused, now())


def judge(paused: Mapping[str, LanePause], at: int) -> Iterator[Finding]:
    """Judge the pauses: one that an operator wanted is a reminder, one by Carpool needs an operator."""
    for lane, pause in sorted(paused.items()):
        since = age(at - pause.paused_at)
        if pause.is_by_hand:
            what = f"{lane} has been paused by an operator for {since}: {pause.reason}"
            yield warning(
                CHECK, what, f"when it may go on: carpool resume {_quoted(lane)}", AlertKind.LANE_PAUSED
            )
        else:
            what = f"{lane} has been paused for {since}: {pause.reason}"
            mend = "put that right; then the next probe resumes it, or carpool resume does"
            yield wrong(CHECK, what, mend, AlertKind.LANE_PAUSED)


def _quoted(lane: str) -> str:
    return f"'{lane}'" if " " in lane else lane
