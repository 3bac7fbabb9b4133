"""What Flower knows of the batches after it heard all of their events, some, or none until now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import celery
import pytest
import redis
import sqlalchemy as sa
from celery.contrib.testing.worker import start_worker
from celery.events.state import State
from tests.fixtures.agents import Carpool, request
from tests.fixtures.flower_events import listening

from carpool_worker.database import write
from carpool_worker.flower import events as flower_events
from carpool_worker.flower import refresh
from carpool_worker.models.tables import batches
from carpool_worker.settings import read_settings
from carpool_worker.states import BatchState
from carpool_worker.store.batches.filling import FRESH
from carpool_worker.telemetry import logs


@pytest.fixture
def app(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[celery.Celery]:
    app = celery.Celery("tests", broker=redis_url)
    monkeypatch.setattr(refresh, "settings", lambda: read_settings(redis_url=redis_url))
    monkeypatch.setattr(refresh, "app", app)
    yield app
    app.close()


Heard = Callable[[Callable[[], None]], list[dict[str, Any]]]


@pytest.fixture
def heard(app: celery.Celery) -> Iterator[Heard]:
    """Returns the events that Flower hears while something is done."""
    with listening(app) as listener:

        def hear(act: Callable[[], None]) -> list[dict[str, Any]]:
            listener.heard.clear()
            act()
            while listener.wait(0.2):
                pass
            return list(listener.heard)

        yield hear


def row(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What Celery's own monitor makes of the events of one batch."""
    state = State()
    for event in events:
        state.event(dict(event))
    [task] = state.tasks.values()
    names = ("name", "state", "args", "kwargs", "result", "received", "started", "succeeded")
    return {name: getattr(task, name) for name in names}


def test_the_last_event_alone_makes_the_same_row_as_all_of_them(
    app: celery.Celery, heard: Heard, carpool: Carpool, producer: Any
) -> None:
    # Given a batch that was published at each step
    producer.enqueue_many([request(f"{n}") for n in range(3)])
    carpool.aggregate()
    [batch] = carpool.rows("SELECT id FROM batches")
    steps = (carpool.submit, lambda: carpool.until_polled("ended"), carpool.collect)
    sent = heard(lambda: flower_events.publish(app, carpool.engine, [batch.id]))
    for step in steps[:-1]:
        step()
        sent += heard(lambda: flower_events.publish(app, carpool.engine, [batch.id]))
    steps[-1]()
    sent += heard(lambda: flower_events.publish_completed(app, carpool.engine, batch.id))

    # When Flower comes late and the batches are published again
    late = heard(lambda: flower_events.publish_newest(app, carpool.engine))

    # Then it has the same row, with the batch's own times
    assert row(late) == row(sent)
    [known] = carpool.rows("SELECT model, opened_at, in_progress_at FROM batches")
    assert row(late)["name"] == f"batch {known.model}"
    assert row(late)["state"] == "SUCCESS"
    assert (row(late)["received"], row(late)["started"]) == (
        known.opened_at / 1000,
        known.in_progress_at / 1000,
    )

    # And the runtime was published once, so that a histogram counts it once
    assert [event["type"] for event in sent + late if "runtime" in event] == ["task-succeeded"]
    assert "runtime" in sent[-1]


def test_all_the_newest_batches_are_published_and_no_others(
    app: celery.Celery, heard: Heard, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more batches than are published, in pages that don't divide them
    monkeypatch.setattr(flower_events, "MOST_REFRESHED", 9)
    monkeypatch.setattr(flower_events, "PAGE", 3)
    ids = [f"{n:032}" for n in range(11)]
    made = {
        **FRESH,
        "model": "m",
        "headers": "{}",
        "state": BatchState.COMPLETED,
        "opened_at": 1,
        "finished_at": 2,
    }
    with write(engine) as connection:
        connection.execute(sa.insert(batches), [{**made, "id": one, "lane": one} for one in ids])

    # When they are published, Then each of the newest has one event
    sent = heard(lambda: flower_events.publish_newest(app, engine))
    assert sorted(event["uuid"] for event in sent) == ids[2:]


def test_all_workers_request_a_refresh_and_the_batches_are_published_once(
    app: celery.Celery, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as server:
        assert not refresh.take_request(server)
        for _ in range(2):
            # When the workers of several machines request it, Then one message is sent, and one reader publishes
            for _ in range(3):
                refresh.request_refresh()
            assert server.llen("carpool.poll") == 1
            assert [refresh.take_request(server) for _ in range(2)] == [True, False]
            server.delete("carpool.poll")


@pytest.fixture
def logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a worker in this process from setting the log's level for all tests to come."""
    monkeypatch.setattr(logs, "begin", lambda *_: None)


@pytest.mark.usefixtures("logging_as_it_is")
def test_a_worker_requests_a_refresh_when_it_connects_and_when_flower_subscribes(
    app: celery.Celery, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "SUBSCRIBES_WITHIN", 0.0)
    app.steps["consumer"].add(refresh.RefreshOnConnect)
    with redis.Redis.from_url(redis_url) as server:

        def is_requested() -> bool:
            return server.blpop(["carpool.poll"], timeout=20) is not None and refresh.take_request(server)

        # When a worker connects, Then it requests one
        with start_worker(app, perform_ping_check=False, shutdown_timeout=30):
            assert is_requested()

            # When Flower subscribes, Then it requests another
            with app.connection() as connection:
                app.events.Receiver(connection).wakeup_workers()
            assert is_requested()
