"""Beat's ticks depend on no time of day, an outage of Redis costs a line, and work wakes it between its ticks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
import redis
from tests.fixtures.agents import request
from tests.fixtures.logs import logged

from carpool import Producer
from carpool.contract import WAITS
from carpool.quotas import ALARMS
from carpool_worker.app import app
from carpool_worker.coordination import heartbeat, wakeups
from carpool_worker.coordination.backlog import MOST_UNREAD, RedisQueues
from carpool_worker.coordination.keys import AGENTS, HEARTBEAT, queue
from carpool_worker.coordination.locks import lock
from carpool_worker.coordination.wakeups import WakeUps, set_alarm
from carpool_worker.pipeline.inbox.shards import SHARDS
from carpool_worker.pipeline.inbox.stream import Inbox
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
        return sum(int(server.llen(queue(agent))) for agent in ("aggregate", "call", "poll", "deliver"))


def test_each_tick_is_sent_once_an_interval(ticking: BeatScheduler, uptime: Uptime, redis_url: str) -> None:
    # When the clock starts, Then every tick goes out once, and the shortest interval is waited for
    assert ticking.send_due() == min(TICKS.values())
    assert ticking.send_due() == min(TICKS.values())
    assert sent(redis_url) == len(TICKS)

    # When that has passed, Then those that are due go out again
    uptime.now += min(TICKS.values())
    ticking.send_due()
    assert sent(redis_url) == len(TICKS) + list(TICKS.values()).count(min(TICKS.values()))


@pytest.mark.parametrize("jump", [-3_600.0, 3_600.0])
def test_a_wall_clock_that_jumps_changes_nothing(
    ticking: BeatScheduler, uptime: Uptime, redis_url: str, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    # Given a clock that has ticked, and a time of day that jumps by an hour
    ticking.send_due()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)

    # When the shortest interval passes, Then its ticks go out
    before = sent(redis_url)
    assert ticking.send_due() == min(TICKS.values())
    assert sent(redis_url) == before
    uptime.now += min(TICKS.values())
    ticking.send_due()
    assert sent(redis_url) > before


def test_ticks_dont_pile_up_where_no_worker_takes_them(
    ticking: BeatScheduler, uptime: Uptime, redis_url: str
) -> None:
    # When nobody takes a tick for a long time, Then no queue holds more than its bound
    for _ in range(MOST_UNREAD + 100):
        ticking.send_due()
        uptime.now += max(TICKS.values())
    with redis.Redis.from_url(redis_url) as server:
        assert {int(server.llen(queue(agent))) for agent in ("aggregate", "poll", "deliver")} == {MOST_UNREAD}


def test_an_outage_of_redis_costs_one_line_and_one_more_when_it_is_over(
    ticking: BeatScheduler, uptime: Uptime, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    # Given a Redis that is away for five ticks
    there, queues = ticking._server, ticking._queues
    ticking._server = redis.Redis.from_url(NO_REDIS)
    ticking._queues = RedisQueues(ticking._server)
    for _ in range(5):
        ticking.send_due()
        ticking.listen(0.001)
        uptime.now += max(TICKS.values())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    [(event, fields)] = logged(caplog)
    assert event == "ticks paused, Redis is away"
    assert fields.keys() == {"error"}  # and no traceback

    # When it is back, Then the ticks resume
    ticking._server, ticking._queues = there, queues
    uptime.now += max(TICKS.values())
    ticking.send_due()
    ticking.listen(0.001)
    assert logged(caplog)[1:] == [("ticks resumed", {})]
    assert sent(redis_url) > 0


def test_each_tick_leaves_a_sign_of_life_whose_age_can_be_told(
    ticking: BeatScheduler, redis_url: str
) -> None:
    with redis.Redis.from_url(redis_url) as server:
        # Given a beat that has never run, its age is unknown
        assert heartbeat.age(server) is None

        # When it ticks, Then the tick is young
        ticking.listen(0.001)
        age = heartbeat.age(server)
        assert age is not None
        assert 0 <= age < 20

        # When it is silent for an hour, Then its age is an hour
        server.pexpire(HEARTBEAT, int((heartbeat.KEPT_SECONDS - 3_600) * 1_000))
        assert heartbeat.age(server) == pytest.approx(3_600, abs=20)


def queued(redis_url: str, agent: str) -> int:
    with redis.Redis.from_url(redis_url) as server:
        return int(server.llen(queue(agent)))


def given_all_ticks_are_taken(ticking: BeatScheduler, redis_url: str) -> None:
    ticking.send_due()
    ticking.listen(0.001)
    with redis.Redis.from_url(redis_url) as server:
        server.delete(*map(queue, AGENTS))


def test_an_alarm_brings_a_tick_forward_and_never_puts_one_off(
    ticking: BeatScheduler, uptime: Uptime, redis_url: str
) -> None:
    given_all_ticks_are_taken(ticking, redis_url)

    # When alarms are set for the poller, one sooner than its tick, the others not, and one for no task of beat's
    with redis.Redis.from_url(redis_url) as server:
        for task, seconds in [("poll", 2.0), ("poll", 1e6), ("aggregate", 1e6), ("unknown", 0.0)]:
            set_alarm(server, task, seconds)
        server.xadd(ALARMS, {"task": "stage", "ms": "soon"})
    for _ in range(5):
        ticking.listen(0.001)

    # Then it sleeps no longer than until the sooner one, and sends the poll alone
    assert ticking.send_due() == pytest.approx(2.0, abs=0.01)
    assert queued(redis_url, "poll") == 0
    uptime.now += 2.1
    ticking.send_due()
    assert (queued(redis_url, "poll"), queued(redis_url, "aggregate")) == (1, 0)

    # And what was not brought forward goes out with its tick
    uptime.now += TICKS["carpool.aggregate"]
    ticking.send_due()
    assert queued(redis_url, "aggregate") == 1


def test_requests_in_the_inbox_wake_the_aggregator_once_until_it_had_time_to_read_them(
    ticking: BeatScheduler, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = Uptime()
    monkeypatch.setattr(wakeups, "monotonic", looked)
    given_all_ticks_are_taken(ticking, redis_url)
    looked.now += 10.0

    # Given requests that nobody has read
    with Producer(redis_url, client="tests") as producer:
        producer.enqueue(request())
        ticking.listen(3.0)  # the request ends the wait
        ticking.send_due()
        assert queued(redis_url, "aggregate") == 1

        # When beat looks again, Then a message that nobody has taken is enough
        looked.now += 10.0
        ticking.listen(0.001)
        ticking.send_due()
        assert queued(redis_url, "aggregate") == 1

        # When one was taken, but an aggregator is at work already, Then it is left alone
        with redis.Redis.from_url(redis_url) as server, lock(server, SHARDS[0].lease):
            server.delete(queue("aggregate"))
            looked.now += 10.0
            ticking.listen(0.001)
            ticking.send_due()
            assert queued(redis_url, "aggregate") == 0

        # When that has ended and left something unread, Then another is sent
        looked.now += 10.0
        ticking.listen(3.0)
        ticking.send_due()
        assert queued(redis_url, "aggregate") == 1

        # When all has been read, Then none is
        with redis.Redis.from_url(redis_url) as server:
            server.delete(queue("aggregate"))
            inbox = Inbox(server, 30)
            for chunk in inbox.chunks():
                inbox.acknowledge(chunk)
        looked.now += 10.0
        ticking.listen(0.001)
        ticking.send_due()
        assert queued(redis_url, "aggregate") == 0


def test_beat_looks_ever_less_often_at_requests_that_no_aggregator_can_read(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = Uptime()
    monkeypatch.setattr(wakeups, "monotonic", looked)
    with Producer(redis_url, client="tests") as producer, redis.Redis.from_url(redis_url) as server:
        producer.enqueue(request())
        wake_ups = WakeUps(server, RedisQueues(server), {shard.inbox: shard.lease for shard in SHARDS})

        # When each message is taken, and its task finds the database away, for a minute
        woken = 0
        for _ in range(600):
            woken += len(list(wake_ups.wait(0.001)))
            looked.now += 0.1

    # Then it was sent about once a second
    assert 55 <= woken <= 70


@pytest.mark.parametrize("shards", [1, 7, 32])
def test_requests_in_any_shard_of_the_inbox_wake_the_aggregator(
    ticking: BeatScheduler, redis_url: str, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    looked = Uptime()
    monkeypatch.setattr(wakeups, "monotonic", looked)
    given_all_ticks_are_taken(ticking, redis_url)
    looked.now += 10.0

    with Producer(redis_url, client="tests", inbox_shards=shards) as producer:
        producer.enqueue(request())
    ticking.listen(0.001)
    ticking.send_due()

    assert queued(redis_url, "aggregate") == 1


def test_a_producer_that_waits_wakes_the_replies(ticking: BeatScheduler, redis_url: str) -> None:
    given_all_ticks_are_taken(ticking, redis_url)

    with redis.Redis.from_url(redis_url) as server:
        server.rpush(WAITS, b"a wait")
    ticking.listen(0.001)
    ticking.send_due()

    assert queued(redis_url, "deliver") == 1
