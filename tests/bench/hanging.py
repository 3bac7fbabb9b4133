"""How long answers wait for their receivers beside the backlog of one that hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median

import celery
import sqlalchemy as sa
from tests.bench.progress import Bar
from tests.bench.rows import Row, at_most
from tests.bench.webhook_receiver import receiving
from tests.fixtures.deliveries import WEBHOOK_SECRET, given_deliveries, webhook
from tests.fixtures.waiting import until
from tests.pipeline.delivery.hostile import hang, hostile

from carpool_worker.database import open_engine, read
from carpool_worker.models import tables
from carpool_worker.pipeline.delivery import courier
from carpool_worker.settings import read_settings

COUNT = 60_000
SECONDS = 60.0
"""Long enough for the one that hangs to be parked, tried again, and parked again."""

PAUSE_SECONDS = 0.5
"""Between two answers to one that is well."""

AIM_SECONDS = 2.0
"""For the longest wait."""

STEP = 5_000
"""Deliveries inserted at a time."""


def run(engine: sa.Engine, count: int, bar: Bar) -> Iterator[Row]:
    """Make a backlog of `count` for a receiver that hangs, then let answers to another become due one by one."""
    with hostile(hang) as bad, receiving() as port:
        for first in range(0, count, STEP):
            bar.show("the backlog", first / count)
            given_deliveries(engine, *[webhook(bad.url())] * min(STEP, count - first), first=first)
        good = f"http://127.0.0.1:{port}/claude"
        with couriers(engine.url.render_as_string(hide_password=False)):
            until(lambda: bad.connections > 0, 30)
            start, given = time.monotonic(), 0
            while (spent := time.monotonic() - start) < SECONDS:
                bar.show("answers beside it", spent / SECONDS)
                given_deliveries(engine, webhook(good), first=count + given)
                given += 1
                time.sleep(PAUSE_SECONDS)
            until(lambda: len(waits_of(engine, good)) == given, 30)
    waits = waits_of(engine, good)
    note = (
        f"{given:,} answers to another waited {median(waits):.2f} s in the median;"
        f" of the backlog {_claimed(engine, bad.url()):,} were claimed in {SECONDS:.0f} s"
    )
    aim = at_most(max(waits), AIM_SECONDS, "s at most beside it")
    yield Row("hanging", engine.dialect.name, count, time.monotonic() - start, note=note, aims=(aim,))


def waits_of(engine: sa.Engine, url: str) -> list[float]:
    """Return the seconds from when the answers to this URL were due to when they were delivered."""
    row = tables.deliveries.c
    made = sa.select(row.delivered_at, tables.requests.c.finished_at).where(
        row.target == url, row.delivered_at.is_not(None), tables.requests.c.answer_id == row.answer_id
    )
    with read(engine) as connection:
        return [(made_at - ended_at) / 1_000 for made_at, ended_at in connection.execute(made)]


def _claimed(engine: sa.Engine, url: str) -> int:
    """Deliveries to this URL that were claimed, each as often as it was."""
    row = tables.deliveries.c
    with read(engine) as connection:
        return int(
            connection.scalar(sa.select(sa.func.sum(row.claims * row.pending)).where(row.target == url)) or 0
        )


@contextmanager
def couriers(database_url: str) -> Iterator[None]:
    """Run one courier after another in a process of its own, as the worker does."""
    process = get_context("spawn").Process(target=_deliver, args=(database_url,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _deliver(database_url: str) -> None:
    settings = read_settings(webhook_secret=WEBHOOK_SECRET, webhook_allowed_networks="127.0.0.0/8")
    engine = open_engine(database_url)
    while True:
        courier.deliver(engine, celery.Celery(broker="memory://"), settings)
        time.sleep(0.1)  # a worker is told when something is due; this one asks
