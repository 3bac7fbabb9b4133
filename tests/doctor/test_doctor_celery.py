"""The doctor on Celery: queues without a worker, and a silent beat."""

from __future__ import annotations

import redis
from tests.fixtures.doctor import Doctor

from carpool_worker.coordination import heartbeat
from carpool_worker.coordination.backlog import MOST_UNREAD
from carpool_worker.coordination.keys import AGENTS, HEARTBEAT, queue
from carpool_worker.doctor.celery_queues import judge_queues


def test_queues_without_a_worker_are_named_with_the_command_that_runs_one(doctor: Doctor) -> None:
    # Given no worker, Then all queues are named
    everything = ",".join(map(queue, AGENTS))
    assert (
        doctor.finds("celery", "wrong", "no worker consumes").mend == f"carpool worker --queues {everything}"
    )

    # Given workers on all queues but two, Then those are named
    consumers = dict.fromkeys(AGENTS, 3) | {"submit": 0, "deliver": 0}
    [one] = judge_queues(consumers, dict.fromkeys(AGENTS, 0))
    assert one.mend == "carpool worker --queues carpool.submit,carpool.deliver"


def test_a_queue_that_grows_is_found(doctor: Doctor, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.rpush(queue("submit"), *["message"] * MOST_UNREAD)

    doctor.finds("celery", "warning", "100 messages are unread in carpool.submit")


def test_a_beat_that_is_silent_is_found(doctor: Doctor, redis_url: str) -> None:
    doctor.finds("celery", "wrong", "beat has never ticked")
    with redis.Redis.from_url(redis_url) as server:
        heartbeat.record(server)
        doctor.finds("celery", "ok", "beat ticked")
        server.pexpire(HEARTBEAT, int((heartbeat.KEPT_SECONDS - 90) * 1_000))

    assert "carpool beat" in doctor.finds("celery", "wrong", "beat has been silent for 9").mend
