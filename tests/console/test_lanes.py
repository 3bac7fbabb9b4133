"""The page on lanes and limits: what is paused, how full queues are, when windows open, and how long batches take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from celery import Celery
from tests.fixtures.console import Browser, signed_on

from carpool_worker.database import now, read, write
from carpool_worker.operations import keys
from carpool_worker.store import durations
from carpool_worker.store.batches import lane_pauses
from carpool_worker.units import SECOND, Milliseconds

MODEL = "claude-haiku-4-5"


@pytest.fixture(autouse=True)
def broker(module_redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Flower's events go to the module's Redis: this process's app keeps that of the test that imported it first."""
    with Celery("console", broker=module_redis_url, set_as_current=False) as app:
        monkeypatch.setattr("carpool_worker.app.app", app)
        yield


def test_the_page_shows_paused_lanes_first_and_why(operator: Browser, console_engine: sa.Engine) -> None:
    # Given
    with write(console_engine) as connection:
        lane_pauses.pause_by_operator(connection, "z <lane>", "until Monday", now() - 7_200_000)
        durations.learn(connection, MODEL, now(), Milliseconds(60 * SECOND))

    # Then
    page = operator.get("/lanes")
    assert page.status == 200
    assert "z &lt;lane&gt;" in page.text
    assert "an operator: until Monday" in page.text
    assert "No windows are set" in page.text
    assert "account default" in page.text
    assert MODEL in page.text
    assert "No batch has ended yet of this model" in operator.get("/lanes?model=other").text


def test_a_lane_is_paused_with_a_reason_and_resumed(operator: Browser, console_engine: sa.Engine) -> None:
    # Given a lane that is known, as Carpool has paused it
    with write(console_engine) as connection:
        lane_pauses.pause(connection, "m", "402", now(), now())

    # When
    without = operator.post("/lanes/pause", {"lane": "m", "reason": " "})
    paused = operator.post("/lanes/pause", {"lane": "m", "reason": "too dear"})

    # Then
    assert (without.status, "reason: must say why" in without.text) == (400, True)
    assert "Paused: m." in paused.text
    assert "an operator: too dear (anna (password))" in paused.text

    # When
    resumed = operator.post("/lanes/resume", {"lane": "m"})

    # Then
    assert "Resumed: m." in resumed.text
    with read(console_engine) as connection:
        assert "m" not in lane_pauses.by_lane(connection)
    unknown = operator.post("/lanes/pause", {"lane": "unheard of", "reason": "why not"})
    assert unknown.status == 404
    assert "there is no lane" in unknown.text


def test_who_may_only_look_pauses_nothing(console: str, operator: Browser, console_engine: sa.Engine) -> None:
    operator.get("/lanes")
    secret = keys.create(console_engine, {"client": "ops", "scopes": ["look"]}, actor="test").secret
    looker = signed_on(console, str(secret))

    assert "/lanes/pause" not in looker.get("/lanes").text
    assert looker.post("/lanes/pause", {"lane": MODEL, "reason": "no"}).status == 403
