"""What in a status needs an operator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carpool_worker.models import UnownedBatch
from carpool_worker.store.batches.unseen import Unseen
from carpool_worker.store.reports.status import Deliveries, Finished, WaitingCount
from carpool_worker.views.accounts import Queue
from carpool_worker.views.alerts import Alert, AlertKind, alerts
from carpool_worker.views.lanes import LaneView
from carpool_worker.views.status import Status
from carpool_worker.views.vitals import Vitals

NOTHING = WaitingCount(0, None)
WELL = Status(
    at=1_000_000,
    vitals=Vitals(inbox=5, oldest_age=0.4, beat_age=0.2, workers=["celery@a"]),
    queues={"default": Queue(0, 100)},
    batches=[],
    long_in_doubt=[],
    overdue=[],
    finished=Finished(0, 0, 0, 0, 0, None, None),
    retryable=NOTHING,
    deliveries=Deliveries(due=NOTHING, retryable=NOTHING, dead=7, dead_lately=0, stopped_endpoints=0),
    lanes=[],
)


def paused(by_operator: bool) -> Status:
    lane = LaneView(
        lane="haiku",
        paused=True,
        paused_by_operator=by_operator,
        reason="402 credit",
        paused_at=1,
        open_requests=0,
        opened_at=None,
        sealed_batches=0,
        sealed_requests=0,
        out_requests=0,
    )
    return replace(WELL, lanes=[lane])


def test_nothing_is_said_where_all_is_well_or_as_an_operator_wants_it() -> None:
    assert alerts(WELL) == []
    assert alerts(paused(by_operator=True)) == []
    assert alerts(replace(WELL, queues={"default": Queue(100, 100)})) == []


ORPHAN = UnownedBatch(claude_id="msgbatch_9", batch_id="b1", found_at=1)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (replace(WELL, vitals=Vitals(error="Connection refused")), "Redis can't be used: Connection refused"),
        (replace(WELL, vitals=replace(WELL.vitals, workers=[])), "no worker answers"),
        (replace(WELL, vitals=replace(WELL.vitals, beat_age=None)), "beat is silent"),
        (replace(WELL, vitals=replace(WELL.vitals, beat_age=31.0)), "beat has been silent for 31 s"),
        (replace(WELL, vitals=replace(WELL.vitals, oldest_age=61.0)), "in the inbox for 61 s"),
        (replace(WELL, vitals=replace(WELL.vitals, quarantined=2)), "2 inbox entries could not be taken"),
        (paused(by_operator=False), "lane haiku is paused: 402 credit"),
        (replace(WELL, long_in_doubt=["b1"]), "batch b1 has been in doubt for too long"),
        (
            replace(WELL, orphans=[ORPHAN]),
            "batch b1 has requests that msgbatch_9 has, too (not canceled yet)",
        ),
        (
            replace(WELL, orphans=[ORPHAN.model_copy(update={"settled_at": 1})]),
            "batch b1 has requests that msgbatch_9 has, too (canceled)",
        ),
        (replace(WELL, unseen={None: Unseen(2, 1)}), "2 batches are seen by no API key of account default"),
        (replace(WELL, overdue=["b2"]), "batch b2 should have ended"),
        (replace(WELL, unread=["b3"]), "the results of batch b3 can't be read: carpool batches show b3"),
        (replace(WELL, deliveries=WELL.deliveries._replace(dead_lately=3)), "3 deliveries were given up on"),
        (
            replace(WELL, deliveries=WELL.deliveries._replace(stopped_endpoints=1)),
            "1 webhook URL is stopped",
        ),
        (
            replace(WELL, deliveries=WELL.deliveries._replace(failing_endpoints=2)),
            "2 receivers have taken no delivery for minutes",
        ),
        (
            replace(WELL, orphans=[ORPHAN.model_copy(update={"run_twice": 3, "is_lost": True})]),
            "3 requests ran twice: of batch b1, and in msgbatch_9 (the tables have lost rows)",
        ),
    ],
)
def test_each_trouble_is_one_sentence(status: Status, words: str) -> None:
    [alert] = alerts(status)
    assert words in str(alert)


def test_the_most_urgent_comes_first_with_the_command_that_helps_and_what_it_is_about() -> None:
    status = replace(WELL, vitals=replace(WELL.vitals, workers=[], quarantined=1), overdue=["b2"])

    assert alerts(status) == [
        Alert(AlertKind.NO_WORKER, "no worker answers", "carpool worker"),
        Alert(AlertKind.ENTRIES_QUARANTINED, "1 inbox entry could not be taken", "carpool quarantine"),
        Alert(AlertKind.BATCH_OVERDUE, "batch b2 should have ended", "carpool batches show b2", "b2"),
    ]
