"""A message that a worker can't take, what it shows of those that it has, and what the log says of them."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery
from celery.exceptions import Reject
from celery.worker.consumer.consumer import INVALID_TASK_ERROR, MESSAGE_DECODE_ERROR, UNKNOWN_TASK_ERROR
from celery.worker.request import Request
from tests.fixtures.logs import logged

from carpool import Producer, QueueFull, RedisUnavailable
from carpool_worker.processes.worker import quote_nothing
from carpool_worker.tasks import enqueue, task_class

PROMPT = "a secret"


@pytest.mark.parametrize("error", [QueueFull(), RedisUnavailable("redis://example", "away")])
def test_a_request_that_the_inbox_cant_take_goes_back_to_its_queue(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    # Given
    def refuse(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(Producer, "enqueue", refuse)
    monkeypatch.setattr(enqueue, "REQUEUE_SECONDS", 0.0)

    # When
    with pytest.raises(Reject) as rejected:
        enqueue.enqueue.run({"model": "m"})

    # Then
    assert rejected.value.requeue


def test_who_inspects_a_worker_is_not_shown_what_its_tasks_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Request, "info", lambda *_: {"id": "1", "args": [], "kwargs": {"params": PROMPT}})

    shown = enqueue.enqueue.Request.__new__(enqueue.enqueue.Request).info()

    assert shown == {"id": "1", "args": "", "kwargs": ""}


@pytest.mark.parametrize("complaint", [UNKNOWN_TASK_ERROR, INVALID_TASK_ERROR, MESSAGE_DECODE_ERROR])
def test_the_log_quotes_no_message(complaint: str) -> None:
    # Given what Celery logs of a message that it can't run
    arguments = (KeyError("carpool.enqeue"), *[PROMPT] * (complaint.count("%") - 1))
    record = logging.LogRecord("celery", logging.ERROR, "", 1, complaint, arguments, None)

    # When
    passes = quote_nothing(record)

    # Then
    assert passes
    assert PROMPT not in record.getMessage()
    assert "carpool.enqeue" in record.getMessage()


class Away(task_class.CarpoolTask):
    """A task whose database has gone."""

    name = "carpool.away"

    def run(self) -> None:
        raise sa.exc.OperationalError("SELECT 1", None, Exception("connection refused\nDETAIL: more"))


@pytest.fixture
def away() -> Any:
    task_class._logged_at.clear()
    return Celery("away").register_task(Away())


def test_a_database_that_is_away_costs_a_line_and_no_traceback(
    away: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # When a task's database has gone, and it runs again and again
    for _ in range(20):
        away()

    # Then the log says so in one line, and nothing is raised
    fields = {"task": "carpool.away", "error": "connection refused"}
    assert logged(caplog) == [("task failed, retried at its next tick", fields)]


def test_an_outage_that_lasts_is_logged_again(
    away: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a task that has said that its database is away
    away()

    # When that is some time ago, Then it says so again
    later = monotonic() + task_class.LOG_SECONDS
    monkeypatch.setattr(task_class, "monotonic", lambda: later)
    away()
    assert len(caplog.records) == 2
