"""Flower's own page of batches, in a window of 1,400 pixels: names, counts and costs fit, however long they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from celery import Celery
from playwright.sync_api import Browser, Error, Page
from tests.browser.conftest import MILLISECONDS, WIDE
from tests.conftest import free_port
from tests.fixtures.waiting import until

from carpool_worker.app import configuration
from carpool_worker.database import now, open_engine, write
from carpool_worker.flower.events import publish_newest
from carpool_worker.models import Batch
from carpool_worker.settings import read_settings
from carpool_worker.states import BatchState

MODELS = ("claude-3-5-sonnet-20241022", "claude-opus-4-5-20251101", "claude-haiku-4-5")
COST = Decimal("12345.678901")

TOO_WIDE = """() => [...document.querySelectorAll("html, #tasks-table, .tasks-table-card, #tasks-table td")]
    .filter((one) => one.scrollWidth > one.clientWidth + 1)
    .map((one) => one.tagName + ": " + one.innerText.slice(0, 80))"""
"""What is wider than its place: the page, the table's card, or a cell."""

LINES = """() => [...document.querySelectorAll("#tasks-table td > a")].map((link) => link.getClientRects().length)"""
"""How many lines each name and each id takes."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, migrated: Callable[[str], None]) -> Iterator[sa.Engine]:
    """A database with a batch of each model in each state that a row can show."""
    url = f"sqlite:///{tmp_path_factory.mktemp('flower')}/carpool.db"
    migrated(url)
    engine = open_engine(url)
    rows = [
        batch(number, model, state)
        for number, (model, state) in enumerate(
            (model, state)
            for model in MODELS
            for state in (BatchState.OPEN, BatchState.SEALED, BatchState.IN_PROGRESS, BatchState.COMPLETED)
        )
    ]
    with write(engine) as connection:
        connection.execute(sa.insert(Batch), [one.model_dump() for one in rows])
    yield engine
    engine.dispose()


def batch(number: int, model: str, state: BatchState) -> Batch:
    opened = now() - (number + 70) * 60_000
    row = Batch(
        id=f"{opened:012x}7{number:019x}",
        lane=model,
        model=model,
        headers="{}",
        state=state,
        request_count=100_000,
        body_bytes=241_900_000,
        opened_at=opened,
        last_error="529 overloaded_error: Overloaded" if state == BatchState.SEALED else None,
    )
    if state in (BatchState.IN_PROGRESS, BatchState.COMPLETED):
        row.claude_id, row.in_progress_at = f"msgbatch_{row.id}", opened + 70_000
    if state == BatchState.COMPLETED:
        row.ended_at = row.finished_at = opened + 3_600_000
        row.succeeded, row.errored = 99_871, 129
        row.cost, row.list_price = COST, 2 * COST
    return row


@pytest.fixture(scope="module")
def flower(tmp_path_factory: pytest.TempPathFactory, module_redis_url: str) -> Iterator[str]:
    """The address of a real `carpool flower`."""
    folder: Path = tmp_path_factory.mktemp("flower")
    port = free_port()
    command = [sys.executable, "-m", "carpool_worker.cli", "flower", "--port", str(port)]
    place = {"CARPOOL_REDIS_URL": module_redis_url, "PATH": "/usr/bin:/bin"}
    with (
        (folder / "flower.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, env=place, stdout=log, stderr=log) as process,
    ):
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    page = chromium.new_page(viewport={"width": WIDE, "height": 900})
    page.set_default_timeout(MILLISECONDS)
    yield page
    page.close()


def test_names_and_costs_fit_at_1400_pixels(
    flower: str, engine: sa.Engine, module_redis_url: str, page: Page
) -> None:
    # Given Flower, which has heard of the batches
    with Celery("carpool", set_as_current=False) as app:
        app.conf.update(configuration(read_settings(redis_url=module_redis_url)))

        def shown() -> bool:
            publish_newest(app, engine)
            try:
                page.goto(f"{flower}/tasks")
                page.locator("#tasks-table tbody tr").first.wait_for()
            except Error:  # it is starting
                return False
            return page.locator("#tasks-table tbody tr").count() == 4 * len(MODELS)

        until(shown, within=60)

    # Then nothing is cut, there is nothing to scroll sideways to, and no name is broken
    assert page.evaluate(TOO_WIDE) == []
    assert set(page.evaluate(LINES)) == {1}
    # And of an id what is shown is the beginning, but what is copied is the whole
    link = page.locator(".task-uuid-full").first
    assert link.evaluate("(one) => one.clientWidth") < 150
    assert len(link.inner_text()) == 32
