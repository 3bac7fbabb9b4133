"""What commands log, in processes of their own: only warnings on a terminal, and what operators do as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.fixtures.agents import MODEL, Carpool, request

from carpool import Producer

FLUSH = [sys.executable, "-m", "carpool_worker.cli", "flush"]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def given_an_open_batch(unhurried: Carpool, producer: Producer) -> None:
    producer.enqueue(request())
    unhurried.aggregate()


def flushed(database_url: str, log_format: str) -> list[str]:
    """Run `carpool flush` without a Redis, so that Flower can't be told, and return the lines on stderr."""
    settings = {
        "CARPOOL_DATABASE_URL": database_url,
        "CARPOOL_REDIS_URL": "redis://127.0.0.1:1/0",
        "CARPOOL_LOG_FORMAT": log_format,
    }
    run = subprocess.run(
        FLUSH, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=True
    )
    assert f"1 request  {MODEL}\n1 batch sealed.\n" in run.stdout
    return run.stderr.splitlines()


@on_sqlite
@pytest.mark.usefixtures("given_an_open_batch")
def test_lines_for_people_are_warnings_alone(sqlite_url: str) -> None:
    [line] = flushed(sqlite_url, "text")

    assert line.index("warning") < line.index("events not sent to Flower") < line.index("error=")


@on_sqlite
@pytest.mark.usefixtures("given_an_open_batch")
def test_lines_for_machines_have_what_the_operator_did(sqlite_url: str) -> None:
    events = {event["message"]: event for event in map(json.loads, flushed(sqlite_url, "json"))}

    assert events["events not sent to Flower"]["level"] == "warning"
    flush = events["lanes flushed by operator"]
    assert flush["actor"].startswith("cli")
    assert flush["count"] == 1


def test_a_logger_that_keeps_its_records_from_the_root_is_heard_and_harms_nothing() -> None:
    # Given a logger as billiard's, with no handler of its own
    program = """
import logging
from carpool_worker.cli import FirstRecord
logging.lastResort = FirstRecord()
own = logging.getLogger("multiprocessing")
own.propagate = False

# When it logs, before logging has begun and after
own.error("a process was killed")
own.error("and another")
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"CARPOOL_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    # Then each record is one line
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["message"] for line in lines] == ["a process was killed", "and another"]
