"""The command line: what it offers, and errors of one line."""

from __future__ import annotations

import inspect
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from carpool_worker.cli import app
from carpool_worker.commands import processes
from carpool_worker.coordination.keys import QUEUES

CARPOOL = [sys.executable, "-m", "carpool_worker.cli"]


def carpool(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder, with nothing in the environment but what is given."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("CARPOOL_", "FLOWER_"))
    }
    return subprocess.run(
        [*CARPOOL, *arguments],
        cwd=folder,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        (["migrate"], {"CARPOOL_FLUSH_COUNT": "0"}, "CARPOOL_FLUSH_COUNT"),
        (["migrate"], {"CARPOOL_CONFIG": "nowhere.toml"}, "nowhere.toml"),
        (["migrate"], {"CARPOOL_DATABASE_URL": "postgresql://127.0.0.1:1/none"}, "CARPOOL_DATABASE_URL"),
        (["migrate"], {"CARPOOL_DATABASE_URL": "nonsense"}, "CARPOOL_DATABASE_URL"),
        (["beat"], {"CARPOOL_REDIS_URL": "nonsense"}, "CARPOOL_REDIS_URL"),
        (["status"], {"CARPOOL_REDIS_URL": "nonsense"}, "CARPOOL_REDIS_URL"),
        (["up", "--data", "/dev/null/data"], {}, "/dev/null/data"),
        (["flower", "--address", "0.0.0.0"], {}, "FLOWER_BASIC_AUTH"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], reason: str
) -> None:
    # When a command can't do its work
    run = carpool(*arguments, folder=tmp_path, **environment)

    # Then it ends with code 1 and one line that names what to look at
    assert run.returncode == 1
    assert run.stderr.startswith("carpool: ")
    assert reason in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    # Given a port that something listens on
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        # When the simulator is to listen there, Then it says so
        run = carpool("simulator", "--port", str(port), folder=tmp_path)
        assert run.returncode == 1
        assert f"127.0.0.1:{port} can't be listened on" in run.stderr


def test_flower_asks_for_its_password_before_it_asks_for_its_port(tmp_path: Path) -> None:
    # Given Flower's port taken, When it is to listen beyond this machine without a password, Then that is named
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        run = carpool("flower", "--address", "0.0.0.0", "--port", str(port), folder=tmp_path)
    assert "FLOWER_BASIC_AUTH" in run.stderr


def test_a_fault_that_the_simulator_does_not_know_is_named(tmp_path: Path) -> None:
    # When a fault is misspelt, Then the option and the word are named
    run = carpool(
        "simulator", "--port", "0", "--fault", '{"operation": "creat", "kind": "lost"}', folder=tmp_path
    )
    assert run.returncode == 1
    assert "--fault: Invalid enum value 'creat'" in run.stderr


def test_a_worker_refuses_tables_of_another_version(tmp_path: Path, redis_url: str) -> None:
    # Given a database without tables
    # When a worker is started on it, Then it names the command that makes them
    run = carpool("worker", folder=tmp_path, CARPOOL_REDIS_URL=redis_url)
    assert run.returncode == 1
    assert "carpool migrate" in run.stderr


def test_migrate_may_run_as_often_as_one_likes(tmp_path: Path) -> None:
    # When the tables are made twice, Then both runs end well
    assert [carpool("migrate", folder=tmp_path).returncode for _ in range(2)] == [0, 0]
    assert (tmp_path / ".carpool" / "carpool.db").is_file()


def test_help_is_quick_because_it_imports_no_agent() -> None:
    # When the command line is imported, Then nothing heavy comes with it
    heavy = "{'celery', 'sqlmodel', 'sqlalchemy', 'anthropic', 'redis', 'pydantic'}"
    code = f"import carpool_worker.cli, sys; print(sorted({heavy} & sys.modules.keys()))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_a_worker_works_on_all_queues_by_default() -> None:
    default = inspect.signature(processes.worker).parameters["queues"].default
    assert default.split(",") == list(QUEUES)


def test_a_worker_refuses_a_queue_that_no_agent_has(tmp_path: Path) -> None:
    run = carpool("worker", "--queues", "carpool.deliver,carpool.delvier", folder=tmp_path)
    assert run.returncode == 2
    assert "there is no queue 'carpool.delvier'" in run.stderr


def test_each_example_in_a_help_stands_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Markdown takes examples for a part of the paragraph above them where that has a single line
    monkeypatch.setenv("COLUMNS", "200")
    for path, command in commands_of(typer.main.get_command(app)):
        examples = re.findall("^ {4}(?=\\S)(.+)$", inspect.cleandoc(command.help or ""), re.MULTILINE)
        shown = CliRunner().invoke(app, [*path, "--help"]).output.splitlines()
        assert set(examples) <= {line.strip() for line in shown}, path
        assert not [line for line in shown if "<bool>" in line], path  # a flag takes no value


def commands_of(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from commands_of(one, (*path, name))
