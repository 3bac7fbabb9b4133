"""A monitor of Celery's events: what it knows of the batches when it heard all of them, some, or none until now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import celery
import pytest
import redis
import sqlalchemy as sa
from celery.contrib.testing.worker import start_worker
from celery.events.state import State
from tests.fixtures.agents import Carpool, request

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
    """Returns the events that a monitor hears while something is done."""
    seen: list[dict[str, Any]] = []
    with app.connection() as given:
        receiver = app.events.Receiver(given, handlers={"*": seen.append})
        with receiver.consumer_context(wakeup=False) as (connection, *_):

            def drain() -> None:
                with suppress(TimeoutError):
                    while True:
                        connection.drain_events(timeout=0.2)

            def hear(act: Callable[[], None]) -> list[dict[str, Any]]:
                seen.clear()
                act()
                drain()
                return list(seen)

            drain()  # subscribes
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
    # Given a batch that was shown at each step
    producer.enqueue_many([request(f"{n}") for n in range(3)])
    carpool.aggregate()
    [batch] = carpool.rows("SELECT id FROM batches")
    steps = (carpool.submit, lambda: carpool.until_polled("ended"), carpool.collect)
    told = heard(lambda: flower_events.show(app, carpool.engine, [batch.id]))
    for step in steps[:-1]:
        step()
        told += heard(lambda: flower_events.show(app, carpool.engine, [batch.id]))
    steps[-1]()
    told += heard(lambda: flower_events.finish(app, carpool.engine, batch.id))

    # When a monitor comes late and is shown what there is
    late = heard(lambda: flower_events.show_newest(app, carpool.engine))

    # Then it has the same row, with the batch's own times
    assert row(late) == row(told)
    [known] = carpool.rows("SELECT model, opened_at, in_progress_at FROM batches")
    assert row(late)["name"] == f"batch {known.model}"
    assert row(late)["state"] == "SUCCESS"
    assert (row(late)["received"], row(late)["started"]) == (
        known.opened_at / 1000,
        known.in_progress_at / 1000,
    )

    # And how long the answers took was told once, so that a histogram counts it once
    assert [event["type"] for event in told + late if "runtime" in event] == ["task-succeeded"]
    assert "runtime" in told[-1]


def test_all_the_newest_batches_are_shown_and_no_more(
    app: celery.Celery, heard: Heard, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more batches than are shown, in pages that don't divide them
    monkeypatch.setattr(flower_events, "SHOWN_ANEW", 9)
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

    # When they are shown, Then each of the newest has one event
    told = heard(lambda: flower_events.show_newest(app, engine))
    assert sorted(event["uuid"] for event in told) == ids[2:]


def test_all_workers_ask_and_the_batches_are_shown_once_for_each_monitor(
    app: celery.Celery, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as server:
        assert not refresh.is_asked_for(server)
        for _ in range(2):
            # When the workers of several machines ask, Then one message is sent and one who reads it shows them
            for _ in range(3):
                refresh.ask()
            assert server.llen("carpool.poll") == 1
            assert [refresh.is_asked_for(server) for _ in range(2)] == [True, False]
            server.delete("carpool.poll")


@pytest.fixture
def logging_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a worker in this process from setting the log's level for all tests to come."""
    monkeypatch.setattr(logs, "begin", lambda level: None)


@pytest.mark.usefixtures("logging_as_it_is")
def test_a_worker_asks_when_it_comes_and_when_a_monitor_begins_to_listen(
    app: celery.Celery, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "LISTENS_WITHIN", 0.0)
    app.steps["consumer"].add(refresh.Arrival)
    with redis.Redis.from_url(redis_url) as server:

        def is_asked() -> bool:
            return server.blpop(["carpool.poll"], timeout=20) is not None and refresh.is_asked_for(server)

        # When a worker connects, Then it asks
        with start_worker(app, perform_ping_check=False, shutdown_timeout=30):
            assert is_asked()

            # When a monitor begins to listen, Then it asks again
            with app.connection() as connection:
                app.events.Receiver(connection).wakeup_workers()
            assert is_asked()
