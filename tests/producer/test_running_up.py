"""A producer without a URL finds the `carpool up` that runs in its folder, and errors say where its Redis came from."""

from __future__ import annotations

import fcntl
import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from tests.conftest import free_port

from carpool import AsyncProducer, InvalidRequest, Producer, RedisUnavailable, Webhook, running_up
from carpool.contract import to_json
from carpool.running_up import RunningUp
from carpool.testing import InMemoryProducer

URL = "redis://127.0.0.1:6398/0"
ENVIRONMENT = {"CARPOOL_REDIS_URL": URL, "CARPOOL_KEY_PREFIX": "mine:", "CARPOOL_ALLOW_HTTP": "loopback"}


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, and an environment that says nothing."""
    for name in list(os.environ):
        if name.startswith("CARPOOL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running_up, "_told", set())
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[IO[bytes]]:
    """What a `carpool up` keeps in the folder, its lock included."""
    data = folder / ".carpool"
    data.mkdir()
    (data / "running.json").write_bytes(to_json(RunningUp(ENVIRONMENT)))
    with (data / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


@pytest.mark.parametrize("kind", [Producer, AsyncProducer])
def test_a_producer_without_a_url_uses_it_and_says_so_once(
    running: Any, kind: type[Any], caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    with caplog.at_level(logging.WARNING, "carpool"):
        made = [kind(), kind()]

    assert {one._options.url for one in made} == {URL}
    assert {one._options.key_prefix for one in made} == {"mine:"}
    [line] = caplog.messages
    assert line == f"CARPOOL_REDIS_URL is not set: using the `carpool up` that runs in {folder}"


def test_http_to_this_machine_is_allowed_then_and_to_no_other(running: Any, params: dict[str, Any]) -> None:
    producer = InMemoryProducer()
    for url in ("http://localhost:3000/x", "http://127.0.0.1/x", "http://[::1]:1/x", "http://a.localhost/x"):
        producer.enqueue(params, callback=Webhook(url))
    for url in ("http://example.com/x", "http://10.0.0.1/x", "http://localhost.example.com/x"):
        with pytest.raises(InvalidRequest, match=r"callback\.url: must be https"):
            producer.enqueue(params, callback=Webhook(url))


def test_what_is_given_or_in_the_environment_comes_first(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Producer("redis://127.0.0.1:1/0")._options.url == "redis://127.0.0.1:1/0"
    monkeypatch.setenv("CARPOOL_KEY_PREFIX", "other:")
    assert (Producer()._options.url, Producer()._options.key_prefix) == (URL, "other:")
    monkeypatch.setenv("CARPOOL_REDIS_URL", "redis://127.0.0.1:2/0")
    assert Producer()._options.url == "redis://127.0.0.1:2/0"


def test_one_that_has_ended_or_is_somebody_elses_is_not_believed(
    running: IO[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setattr("os.geteuid", lambda: os.getuid() + 1)
        assert running_up.find() is None
    assert running_up.find() == RunningUp(ENVIRONMENT)
    running.close()
    assert running_up.find() is None


def test_looking_makes_nothing(folder: Path) -> None:
    assert running_up.find() is None
    assert Producer()._options.url == "redis://127.0.0.1:6379/0"
    assert list(folder.iterdir()) == []


def test_an_error_says_which_redis_it_was_who_named_it_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]
) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setattr("carpool.options.DEFAULT_URL", url)
    unset = "the default: CARPOOL_REDIS_URL is not set, and no `carpool up` runs in this folder"
    with pytest.raises(RedisUnavailable) as raised:
        Producer().enqueue(params)
    assert str(raised.value).startswith(f"Redis at {url} ({unset}) is unavailable: Error 111")
    shown = "".join(traceback.format_exception(raised.value))
    assert "During handling" not in shown
    assert "direct cause" not in shown

    monkeypatch.setenv("CARPOOL_REDIS_URL", url)
    with pytest.raises(RedisUnavailable, match=r"/0 \(CARPOOL_REDIS_URL\) is unavailable"):
        Producer().wait("0" * 32)
    with pytest.raises(RedisUnavailable, match=r"/0 is unavailable"):
        Producer(url).cancel("0" * 32)
