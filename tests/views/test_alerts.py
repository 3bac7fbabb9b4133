"""What of an overview needs an operator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carpool_worker.models import LanePause
from carpool_worker.store.reports.lanes import LaneView
from carpool_worker.store.reports.status import Deliveries, Finished, Waiting
from carpool_worker.views.alerts import alarms
from carpool_worker.views.status import Overview
from carpool_worker.views.vitals import Signs

NOTHING = Waiting(0, None)
WELL = Overview(
    at=1_000_000,
    signs=Signs(inbox=5, oldest=0.4, beat=0.2, workers=["celery@a"]),
    queued=0,
    queue_limit=100,
    standings=[],
    lost=[],
    overdue=[],
    finished=Finished(0, 0, 0, 0, 0, None, None),
    retryable=NOTHING,
    deliveries=Deliveries(due=NOTHING, retryable=NOTHING, dead=7, dead_lately=0, stopped_endpoints=0),
    lanes=[],
)


def paused(by_operator: bool) -> Overview:
    pause = LanePause(lane="haiku", reason="402 credit", paused_at=1, probe_at=1, by_operator=by_operator)
    return replace(WELL, lanes=[LaneView("haiku", pause)])


def test_nothing_is_said_where_all_is_well_or_as_an_operator_wants_it() -> None:
    assert alarms(WELL) == []
    assert alarms(paused(by_operator=True)) == []
    assert alarms(replace(WELL, queued=100)) == []


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (replace(WELL, signs=Signs(error="Connection refused")), "Redis can't be used: Connection refused"),
        (replace(WELL, signs=replace(WELL.signs, workers=[])), "no worker answers"),
        (replace(WELL, signs=replace(WELL.signs, beat=None)), "beat is silent"),
        (replace(WELL, signs=replace(WELL.signs, beat=31.0)), "beat has been silent for 31 s"),
        (replace(WELL, signs=replace(WELL.signs, oldest=61.0)), "in the inbox for 61 s"),
        (replace(WELL, signs=replace(WELL.signs, quarantined=2)), "2 inbox entries could not be taken"),
        (paused(by_operator=False), "lane haiku is paused: 402 credit"),
        (replace(WELL, lost=["b1"]), "batch b1 is in doubt for too long"),
        (replace(WELL, overdue=["b2"]), "batch b2 should have ended"),
        (replace(WELL, deliveries=WELL.deliveries._replace(dead_lately=3)), "3 deliveries were given up on"),
        (
            replace(WELL, deliveries=WELL.deliveries._replace(stopped_endpoints=1)),
            "1 webhook URLs are stopped",
        ),
    ],
)
def test_each_trouble_is_one_sentence(seen: Overview, words: str) -> None:
    [alarm] = alarms(seen)
    assert words in alarm
