"""What a line of the log looks like: JSON for machines, text for a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime

import pytest
import structlog
from tests.fixtures.logs import logged

from carpool_worker.telemetry import logs

log = logs.get_logger("carpool_worker.x")


def record(message: str, *arguments: object, **more: object) -> logging.LogRecord:
    made = logging.LogRecord("celery.x", logging.WARNING, "", 1, message, arguments, None)
    vars(made).update(more)
    return made


def with_traceback() -> logging.LogRecord:
    secret = "a prompt"
    try:
        int(secret[2])
    except ValueError:
        failure = sys.exc_info()
    return record("it failed", exc_info=failure)


def test_a_json_line_is_one_object_with_the_time_the_message_and_the_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given an event with fields, at a known time
    log.warning("batch deferred", batch="b1", seconds=5.5)
    [deferred] = caplog.records
    deferred.created = 1_763_820_000.25

    # When
    line = logs.formatter(as_json=True).format(deferred)

    # Then
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2025-11-22T14:00:00.250Z",
        "level": "warning",
        "logger": "carpool_worker.x",
        "message": "batch deferred",
        "batch": "b1",
        "seconds": 5.5,
    }


def test_a_librarys_record_is_the_same_object() -> None:
    line = logs.formatter(as_json=True).format(record("lost %s", "redis", created=1_763_820_000.25))

    assert json.loads(line) == {
        "time": "2025-11-22T14:00:00.250Z",
        "level": "warning",
        "logger": "celery.x",
        "message": "lost redis",
    }


def test_an_event_below_the_level_is_no_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="carpool_worker"):
        log.warning("batch deferred", batch="b1")

    assert caplog.records == []


def test_a_percent_sign_in_an_event_or_a_field_is_only_that(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("90%s full", used="90%d")

    assert json.loads(logs.formatter(as_json=True).format(caplog.records[0]))["used"] == "90%d"
    assert "90%s full" in logs.formatter(as_json=False).format(caplog.records[0])


def test_another_applications_configuration_of_structlog_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a process in which somebody else uses structlog too
    structlog.configure(processors=[structlog.processors.JSONRenderer()])

    # When
    logs.get_logger("carpool_worker.y").warning("batch sealed", batch="b1")
    structlog.reset_defaults()

    # Then
    assert logged(caplog) == [("batch sealed", {"batch": "b1"})]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_shows_no_variables(as_json: bool, caplog: pytest.LogCaptureFixture) -> None:
    # Given an event of Carpool's own, and a library's record, both with a traceback
    secret = "a prompt"
    try:
        int(secret[2])
    except ValueError:
        log.exception("it failed")

    # When / Then
    for failed in (caplog.records[0], with_traceback()):
        line = logs.formatter(as_json).format(failed)
        assert "ValueError: invalid literal for int() with base 10: 'p'" in line
        assert "a prompt" not in line


def test_a_traceback_is_within_the_object() -> None:
    line = logs.formatter(as_json=True).format(with_traceback())

    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: invalid literal for int() with base 10: 'p'")


def test_a_text_line_is_to_be_read_and_has_the_same_fields(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("batch sealed", batch="b1", requests=7)

    line = logs.formatter(as_json=False).format(caplog.records[0])

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
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)

    assert logs.is_json(chosen) is is_json
