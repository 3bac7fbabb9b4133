"""Every command, where Redis, the database or the disk fails it: one line that says what to do, and no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import typer
from redis.exceptions import ConnectionError as RedisAway
from tests.commands import each_command
from tests.commands.each_command import REQUEST
from tests.commands.test_cli import commands_of
from tests.fixtures.tls import authority, tls_port

from carpool_worker import settings
from carpool_worker.cli import app
from carpool_worker.commands.surroundings import sentence
from carpool_worker.exceptions import WorkerError
from carpool_worker.processes import preflight

__all__ = ["authority", "tls_port"]

OF_THE_DATABASE = (
    *("migrate", "status", "lanes", "flush", "usage", "advise", "batches", "requests", "deliveries"),
    *("clients", "clients show billing", "pause claude-haiku-4-5", "purge --client billing --yes"),
    *("retry --all --yes", "deliveries replay --all --yes", "results --client billing", "metrics --port 0"),
    *(f"batches show {REQUEST}", f"requests show {REQUEST}", f"batches resolve {REQUEST} --not-made --yes"),
    *(f"cancel {REQUEST} --yes", "reconcile", "resume claude-haiku-4-5", "deliveries endpoints"),
    *("clients rotate-secret billing", "keys create billing", "keys list", "keys revoke billing --yes"),
)
THAT_WRITE = ("resume claude-haiku-4-5", f"cancel {REQUEST} --yes", "keys create billing")
"""Also where there is nothing to do."""

OF_REDIS = (
    "status",
    "quarantine",
    "quarantine show 1-1",
    "quarantine drop 1-1 --yes",
    "quarantine retry 1-1",
)

REFUSES = "127.0.0.1:1"

DATABASES = {
    "no server": (f"postgresql://{REFUSES}/none", "CARPOOL_DATABASE_URL"),
    "no server, by its other name": (f"postgres://{REFUSES}/none", "CARPOOL_DATABASE_URL"),
    "no URL": ("nonsense", "CARPOOL_DATABASE_URL"),
    "another database": ("mysql+nodriver://x/y", "CARPOOL_DATABASE_URL"),
    "a driver that is missing": ("postgresql+psycopg2://x/y", "CARPOOL_DATABASE_URL"),
    "no authority": (
        f"postgresql://{REFUSES}/x?sslmode=verify-full&sslrootcert=/none",
        "CARPOOL_DATABASE_URL",
    ),
    "a folder that is none": ("sqlite:////dev/null/x/carpool.db", "another place"),
    "a folder that can't be written": ("sqlite:////proc/carpool.db", "another place"),
}
SERVERS = {
    "no server": f"redis://{REFUSES}/0",
    "no socket": "unix:///nonexistent/redis.sock",
}


HALF_A_PAIR = UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")

READ_ONLY = "attempt to write a readonly database: make room or give this user the right to it"


def runs(folder: Path, commands: tuple[str, ...], **surroundings: str) -> list[dict[str, Any]]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("CARPOOL_", "FLOWER_"))
    }
    found = subprocess.run(
        [sys.executable, "-m", "tests.commands.each_command", *commands],
        cwd=folder,
        env=clean | surroundings | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


def assert_one_line(run: dict[str, Any], part: str) -> None:
    assert run["code"] == 1, run
    assert run["err"].startswith("carpool: "), run
    assert len(run["err"].splitlines()) == 1, run
    assert part in run["err"], run


@pytest.mark.parametrize("kind", DATABASES)
def test_a_database_that_can_not_be_used_is_one_line(kind: str, tmp_path: Path, redis_url: str) -> None:
    url, part = DATABASES[kind]
    commands = OF_THE_DATABASE if kind == "no server" else OF_THE_DATABASE[:1]
    for run in runs(tmp_path, commands, CARPOOL_DATABASE_URL=url, CARPOOL_REDIS_URL=redis_url):
        assert_one_line(run, part)


def test_a_database_that_can_only_be_read_is_one_line(
    tmp_path: Path, sqlite_url: str, migrated: Callable[[str], None], redis_url: str
) -> None:
    migrated(sqlite_url)
    url = f"sqlite:///file:{sqlite_url.removeprefix('sqlite:///')}?mode=ro&uri=true"
    for run in runs(tmp_path, THAT_WRITE, CARPOOL_DATABASE_URL=url, CARPOOL_REDIS_URL=redis_url):
        assert_one_line(run, READ_ONLY)


def test_a_redis_that_cant_prove_who_it_is_is_one_line(tmp_path: Path, tls_port: int) -> None:
    for run in runs(tmp_path, ("quarantine",), CARPOOL_REDIS_URL=f"rediss://localhost:{tls_port}/0"):
        assert_one_line(run, "certificate verify failed")
        assert "?ssl_ca_certs=FILE" in run["err"]


def test_no_process_waits_for_it(
    tls_port: int, command_line_without_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARPOOL_REDIS_URL", f"rediss://localhost:{tls_port}/0")
    settings.settings.cache_clear()

    def wait(_: float) -> None:
        pytest.fail("it will not become another one")

    monkeypatch.setattr(preflight, "sleep", wait)
    with pytest.raises(WorkerError, match=r"\?ssl_ca_certs=FILE"):
        preflight.check_redis()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_redis_that_can_not_be_used_is_one_line(kind: str, tmp_path: Path) -> None:
    commands = OF_REDIS[1:] if kind == "no server" else OF_REDIS[1:2]
    for run in runs(tmp_path, commands, CARPOOL_REDIS_URL=SERVERS[kind]):
        assert_one_line(run, "CARPOOL_REDIS_URL")


def test_no_command_is_forgotten() -> None:
    every = {
        " ".join(path)
        for path, one in commands_of(typer.main.get_command(app))
        if path and not _is_group(one)
    }
    tried = {name for name in every if any(f"{one} ".startswith(f"{name} ") for one in each_command.COMMANDS)}
    assert every - tried == {"config", "demo"}  # which ask no server


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (
            ModuleNotFoundError("No module named 'psycopg'", name="psycopg"),
            "psycopg is not installed: pip install",
        ),
        (PermissionError(13, "Permission denied", "/data/x"), "/data/x: Permission denied: make room"),
        (OSError(30, "Read-only file system", b"/data/x"), "/data/x: Read-only file system"),
        (OSError(28, "No space left on device"), "No space left on device: make room"),
        (RedisAway("Error 111"), "CARPOOL_REDIS_URL"),
        (UnicodeEncodeError("utf-8", "gr\udcc3e", 2, 3, "surrogates not allowed"), "C.UTF-8"),
        (sa.exc.ArgumentError("Could not parse"), "correct CARPOOL_DATABASE_URL"),
        (sa.exc.OperationalError("SELECT", None, Exception("no such table: batches")), "run carpool migrate"),
        (
            sa.exc.OperationalError("SELECT", None, Exception("disk I/O error\nmore")),
            "disk I/O error: make room",
        ),
    ],
)
def test_what_fails_a_command_is_a_sentence_with_what_to_do(error: Exception, part: str) -> None:
    assert part in str(sentence(error))
    assert "\n" not in str(sentence(error))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        KeyError("a bug"),
        HALF_A_PAIR,
        BrokenPipeError(32, "Broken pipe"),
        TypeError("a bug"),
    ],
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    assert sentence(error) is None


def _is_group(command: Any) -> bool:
    return bool(getattr(command, "commands", None)) and not getattr(command, "invoke_without_command", False)
