"""Beat's ticks depend on no time of day, and an outage of Redis costs a line."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
import redis
from tests.fixtures.logs import logged

from carpool_worker.app import app
from carpool_worker.coordination import heartbeat
from carpool_worker.coordination.backlog import MOST_UNREAD
from carpool_worker.coordination.keys import HEARTBEAT, queue
from carpool_worker.processes import beat
from carpool_worker.processes.beat import BeatScheduler
from carpool_worker.settings import settings

NO_REDIS = "redis://127.0.0.1:1/0"
TICKS = {name: entry["schedule"] for name, entry in app.conf.beat_schedule.items()}


class Uptime:
    """What the clock takes for the machine's uptime, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> Uptime:
    uptime = Uptime()
    monkeypatch.setattr(beat, "monotonic", uptime)
    return uptime


@pytest.fixture
def ticking(redis_url: str, uptime: Uptime, monkeypatch: pytest.MonkeyPatch) -> Iterator[BeatScheduler]:
    monkeypatch.setenv("CARPOOL_REDIS_URL", redis_url)
    monkeypatch.setitem(app.conf, "broker_url", redis_url)
    settings.cache_clear()
    yield BeatScheduler(app)
    settings.cache_clear()
    app.pool.force_close_all()


def sent(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as server:
        return sum(int(server.llen(queue(agent))) for agent in ("aggregate", "poll", "deliver"))


def test_each_tick_is_sent_once_an_interval(ticking: BeatScheduler, uptime: Uptime, redis_url: str) -> None:
    # When the clock starts, Then every tick goes out once, and the shortest interval is waited for
    assert ticking.tick() == min(TICKS.values())
    assert ticking.tick() == min(TICKS.values())
    assert sent(redis_url) == len(TICKS)

    # When that has passed, Then those that are due go out again
    uptime.now += min(TICKS.values())
    ticking.tick()
    assert sent(redis_url) == len(TICKS) + list(TICKS.values()).count(min(TICKS.values()))


@pytest.mark.parametrize("jump", [-3_600.0, 3_600.0])
def test_a_wall_clock_that_jumps_changes_nothing(
    ticking: BeatScheduler, uptime: Uptime, redis_url: str, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    # Given a clock that has ticked, and a time of day that jumps by an hour
    ticking.tick()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)

    # When a second passes, Then the ticks of a second go out
    before = sent(redis_url)
    assert ticking.tick() == min(TICKS.values())
    assert sent(redis_url) == before
    uptime.now += 1.0
    ticking.tick()
    assert sent(redis_url) > before


def test_ticks_dont_pile_up_where_no_worker_takes_them(
    ticking: BeatScheduler, uptime: Uptime, redis_url: str
) -> None:
    # When nobody takes a tick for ten minutes, Then no queue holds more than its bound
    for _ in range(600):
        ticking.tick()
        uptime.now += 1.0
    with redis.Redis.from_url(redis_url) as server:
        assert {int(server.llen(queue(agent))) for agent in ("aggregate", "poll", "deliver")} == {MOST_UNREAD}


def test_an_outage_of_redis_costs_one_line_and_one_more_when_it_is_over(
    ticking: BeatScheduler, uptime: Uptime, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    # Given a Redis that is away for five seconds
    there, ticking._server = ticking._server, redis.Redis.from_url(NO_REDIS)
    for _ in range(5):
        ticking.tick()
        uptime.now += 1.0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    [(event, fields)] = logged(caplog)
    assert event == "ticks paused, Redis is away"
    assert fields.keys() == {"error"}  # and no traceback

    # When it is back, Then the ticks resume
    ticking._server = there
    uptime.now += 1.0
    ticking.tick()
    assert logged(caplog)[1:] == [("ticks resumed", {})]
    assert sent(redis_url) > 0


def test_each_tick_leaves_a_sign_of_life_whose_age_can_be_told(
    ticking: BeatScheduler, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as server:
        # Given a beat that has never run, its age is unknown
        assert heartbeat.age(server) is None

        # When it ticks, Then the tick is young
        ticking.tick()
        age = heartbeat.age(server)
        assert age is not None
        assert 0 <= age < 20

        # When it is silent for an hour, Then its age is an hour
        server.pexpire(HEARTBEAT, int((heartbeat.KEPT_SECONDS - 3_600) * 1_000))
        assert heartbeat.age(server) == pytest.approx(3_600, abs=20)
