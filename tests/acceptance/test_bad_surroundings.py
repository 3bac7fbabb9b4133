"""The processes of a deployment, run as they are, where a URL, a file, a key or a terminal is wrong.

Each says in one line what to do, shows no traceback, and ends by itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from socket import create_server
from typing import Any, NamedTuple

import pytest

CARPOOL = Path(sysconfig.get_path("scripts")) / "carpool"

SECONDS = 120
"""Long enough for a busy machine, where the imports alone may take half a minute. None of them waits for longer than
ten seconds for anything."""

REFUSES = "127.0.0.1:1"

WORKER, BEAT, FLOWER = ("worker",), ("beat",), ("flower", "--port", "1")
UP = ("up", "--any-port")
ENQUEUE = ("enqueue", "-f", "requests.jsonl")

PARAMS = '{"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "é"}]}'
REQUEST = f'{{"custom_id": "one", "params": {PARAMS}}}\n'
FOREIGN = ("CARPOOL_", "FLOWER_", "ANTHROPIC_")


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str

    def says(self, *parts: str) -> None:
        """Check that it failed, with a line at the end that has these parts."""
        assert "Traceback" not in self.out + self.err, self
        assert self.code not in (0, 70), self
        last = self.err.strip().splitlines()[-1]
        assert last.startswith("carpool: "), self
        for part in parts:
            assert part in last, self


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "requests.jsonl").write_text(REQUEST, "utf-8")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}

    def ended(command: Sequence[str], stdout: Any = subprocess.PIPE, **surroundings: str) -> Ended:
        done = subprocess.run(
            [sys.executable, CARPOOL, *command],
            cwd=tmp_path,
            env=clean | surroundings,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
        return Ended(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())

    return ended


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of something that takes connections and never says a word."""
    with create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("command", "url", "part"),
    [
        (WORKER, "nonsense", "Could not parse"),
        (WORKER, "oracle://x/y", "oracledb"),
        (UP, f"postgresql://{REFUSES}/none", "Connection refused"),
    ],
)
def test_a_wrong_database_is_named_though_redis_is_away(
    run: Run, command: Sequence[str], url: str, part: str
) -> None:
    ended = run(command, CARPOOL_REDIS_URL=f"redis://{REFUSES}", CARPOOL_DATABASE_URL=url)

    ended.says("CARPOOL_DATABASE_URL", part)
    assert "waiting" not in ended.err


def test_a_database_that_never_answers_is_given_up(run: Run, deaf: str) -> None:
    run(WORKER, CARPOOL_DATABASE_URL=f"postgresql://{deaf}/none").says("CARPOOL_DATABASE_URL", "timeout")


@pytest.mark.parametrize(
    ("command", "url"),
    [
        (BEAT, "nonsense"),
        (ENQUEUE, "http://127.0.0.1"),
        (UP, "redis://127.0.0.1:6379/0?colour=blue"),
        (BEAT, f"rediss://{REFUSES}/0?ssl_ca_certs=/nowhere/ca.pem"),
        (FLOWER, f"rediss://{REFUSES}/0?ssl_ca_certs=/nowhere/ca.pem"),
        (ENQUEUE, f"rediss://{REFUSES}/0?ssl_ca_certs=/nowhere/ca.pem"),
    ],
)
def test_a_url_that_no_redis_can_have_is_named(run: Run, command: Sequence[str], url: str) -> None:
    ended = run(command, CARPOOL_REDIS_URL=url)

    ended.says("CARPOOL_REDIS_URL", *(["/nowhere/ca.pem"] if "ca.pem" in url else []))
    assert "waiting" not in ended.err


def test_a_redis_that_is_away_is_waited_for_in_the_open_and_named(run: Run, migrated_file: str) -> None:
    ended = run(WORKER, CARPOOL_REDIS_URL=f"redis://{REFUSES}", CARPOOL_DATABASE_URL=migrated_file)

    ended.says("CARPOOL_REDIS_URL", "Connection refused")
    assert ended.err.count("waiting for Redis") == 1


@pytest.mark.parametrize("command", [BEAT, ENQUEUE], ids=" ".join)
def test_a_redis_that_never_answers_is_given_up(run: Run, command: Sequence[str], deaf: str) -> None:
    run(command, CARPOOL_REDIS_URL=f"redis://{deaf}").says("Redis")


@pytest.mark.parametrize("folder", ["/proc/carpool", "/dev/null/carpool"])
def test_a_folder_that_can_not_be_made_is_named(run: Run, folder: str) -> None:
    run((*UP, "--data", folder)).says(folder)


@pytest.mark.parametrize("command", [("usage",), ("--help",)], ids=" ".join)
def test_a_full_disk_is_named(run: Run, migrated_file: str, command: Sequence[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        run(command, stdout=full, CARPOOL_DATABASE_URL=migrated_file).says("No space left on device")


@pytest.mark.parametrize("key", ["sk-ant-simulated\n", "sk-ant-simulated…"])
def test_a_key_that_can_not_be_sent_is_named_and_not_shown(run: Run, key: str) -> None:
    ended = run(UP, ANTHROPIC_API_KEY=key)

    ended.says("ANTHROPIC_API_KEY")
    assert "simulated" not in ended.err


@pytest.fixture
def migrated_file(sqlite_url: str, migrated: Callable[[str], None]) -> str:
    """The URL of a file with tables."""
    migrated(sqlite_url)
    return sqlite_url
