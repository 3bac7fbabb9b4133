"""What a line of the log looks like: JSON for machines, text for a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime

import pytest

from carpool_worker.settings import read_settings
from carpool_worker.telemetry import logs
from carpool_worker.transition_log import extra


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("carpool_worker.x", logging.WARNING, "", 1, message, arguments, None)
    vars(made).update(more)
    return made


def with_traceback() -> logging.LogRecord:
    secret = "a prompt"
    try:
        int(secret[2])
    except ValueError:
        failure = sys.exc_info()
    return record("it failed", exc_info=failure)


def test_a_json_line_is_one_object_with_the_time_the_message_and_the_fields() -> None:
    # Given a record with fields, at a known time
    moved = record("batch %s waits", "b1", created=1_763_820_000.25, **extra(batch="b1", seconds=5.5))

    # When
    line = logs.formatter(as_json=True).format(moved)

    # Then
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2025-11-22T14:00:00.250Z",
        "level": "warning",
        "logger": "carpool_worker.x",
        "message": "batch b1 waits",
        "batch": "b1",
        "seconds": 5.5,
    }


def test_a_traceback_is_within_the_object_and_shows_no_variables() -> None:
    line = logs.formatter(as_json=True).format(with_traceback())

    seen = json.loads(line)
    assert "\n" not in line
    assert seen["exception"].endswith("ValueError: invalid literal for int() with base 10: 'p'")
    assert "a prompt" not in line + logs.formatter(as_json=False).format(with_traceback())


def test_a_text_line_is_to_be_read_and_has_the_same_fields() -> None:
    line = logs.formatter(as_json=False).format(record("batch sealed", **extra(batch="b1", requests=7)))

    assert (
        line.index("warning") < line.index("batch sealed") < line.index("batch=b1") < line.index("requests=7")
    )
    assert "\033" not in line  # no colours
    assert datetime.fromisoformat(line.split()[0]).utcoffset() is not None


@pytest.mark.parametrize("as_json", [True, False])
def test_what_a_library_attaches_to_its_records_is_left_out(as_json: bool) -> None:
    # Given a record as Celery makes it of a task that failed
    failed = record("Task failed", data={"args": "('a prompt',)"})

    assert "a prompt" not in logs.formatter(as_json).format(failed)


@pytest.mark.parametrize(
    ("chosen", "terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("json", True, True), ("text", False, False)],
)
def test_lines_are_json_unless_a_terminal_or_the_setting_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, chosen: str, terminal: bool, is_json: bool
) -> None:
    monkeypatch.setattr(logs, "settings", lambda: read_settings(log_format=chosen))
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)

    assert logs.is_json() is is_json
