"""Commands find the `carpool up` that runs in their folder, and make nothing where none does."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.fixtures.command_line import run

from carpool.contract import to_json
from carpool.running_up import RunningUp
from carpool_worker import settings
from carpool_worker.commands.adoption import adopt


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty working directory, and an environment that says nothing; both as they were in the end."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("CARPOOL_", "ANTHROPIC_")):
            del os.environ[name]
    monkeypatch.chdir(tmp_path)
    settings.settings.cache_clear()
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)
    settings.settings.cache_clear()


@pytest.fixture
def environment(folder: Path, redis_url: str) -> Iterator[dict[str, str]]:
    """What the programs of a `carpool up` run with that runs in the folder."""
    data = folder / ".carpool"
    data.mkdir()
    places = {
        "CARPOOL_REDIS_URL": redis_url,
        "CARPOOL_DATABASE_URL": f"sqlite:///{data}/carpool.db",
        "CARPOOL_FLUSH_INTERVAL": "2",
    }
    (data / "running.json").write_bytes(to_json(RunningUp(places, "http://127.0.0.1:8082")))
    with (data / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield places


def test_its_redis_its_database_its_settings_and_its_simulator_are_used_and_a_line_says_so(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.environ["ANTHROPIC_API_KEY"] = "sk-ant-not-a-key"

    adopt("status")

    assert capsys.readouterr().err == "Using the `carpool up` that runs in this folder.\n"
    assert settings.read_settings().flush_interval == 2
    assert environment.items() <= os.environ.items()
    assert os.environ["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8082"
    assert os.environ["ANTHROPIC_API_KEY"] == "simulated"


def test_a_shell_that_has_sourced_its_env_gets_its_settings_too_without_a_word(
    environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.environ["CARPOOL_REDIS_URL"] = environment["CARPOOL_REDIS_URL"]
    os.environ["CARPOOL_FLUSH_INTERVAL"] = "7"

    adopt("status")

    assert capsys.readouterr().err == ""
    assert os.environ["CARPOOL_DATABASE_URL"] == environment["CARPOOL_DATABASE_URL"]
    assert settings.read_settings().flush_interval == 7


@pytest.mark.parametrize(
    ("command", "url"), [("status", "redis://elsewhere:1/0"), ("worker", ""), ("up", "")]
)
def test_who_names_another_redis_or_is_a_program_is_left_alone(
    environment: dict[str, str], command: str, url: str
) -> None:
    if url:
        os.environ["CARPOOL_REDIS_URL"] = url
    adopt(command)
    assert "CARPOOL_DATABASE_URL" not in os.environ


@pytest.mark.parametrize(
    "command", ["status", "usage", "requests", "batches", "advise", "listen --forward-to http://a"]
)
def test_where_nothing_runs_looking_says_what_to_start_and_makes_nothing(folder: Path, command: str) -> None:
    shown = run(*command.split())

    assert shown.exit_code == 1
    assert shown.output.startswith(
        "carpool: .carpool/carpool.db does not exist, so no Carpool has run here: "
    )
    assert "start one with `carpool up`" in shown.output
    assert list(folder.iterdir()) == []


def test_without_redis_the_line_says_that_none_is_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise redis.ConnectionError("Error 111 connecting to 127.0.0.1:6379. Connection refused.")

    monkeypatch.setattr("redis.connection.Connection.connect", refuse)
    shown = run("quarantine")
    assert shown.output == (
        "carpool: Redis at redis://127.0.0.1:6379/0 (the default: CARPOOL_REDIS_URL is not set, and no `carpool up` "
        "runs in this folder) can't be used: Error 111 connecting to 127.0.0.1:6379. Connection refused: start Carpool "
        "here with `carpool up`, or set CARPOOL_REDIS_URL\n"
    )
