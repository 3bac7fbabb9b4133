"""The command line in this process, on a test's database and Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from typer.testing import CliRunner, Result

from carpool_worker import database, settings
from carpool_worker.cli import app

CACHED = (settings.settings, database.engine)


@pytest.fixture
def command_line(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command line reads the test's database and Redis, and finds a terminal of 80 columns."""
    monkeypatch.setenv("CARPOOL_DATABASE_URL", database_url)
    monkeypatch.setenv("CARPOOL_REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "80")
    for cached in CACHED:
        cached.cache_clear()
    # The app of this process has the broker of whoever imported it first: it is away, and asked for seconds.
    with Celery("commands", broker=redis_url, set_as_current=False) as celery:
        monkeypatch.setattr("carpool_worker.app.app", celery)
        yield
    database.engine().dispose()
    for cached in CACHED:
        cached.cache_clear()


def run(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=answer)


def succeeded(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def rows(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in succeeded(*arguments, "--json").splitlines()]


def fits_80_columns(shown: str) -> bool:
    return max(map(len, shown.splitlines())) <= 80
