"""How long a client's answers wait for delivery while another has a backlog due, at the same receiver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

import sqlalchemy as sa
from tests.bench.hanging import PAUSE_SECONDS, STEP, couriers, waits_of
from tests.bench.progress import Bar
from tests.bench.rows import Row, at_most
from tests.bench.webhook_receiver import receiving
from tests.fixtures.deliveries import given_deliveries, webhook
from tests.fixtures.waiting import until

from carpool_worker.database import read
from carpool_worker.models import tables

COUNT = 100_000

AIM_SECONDS = 5.0
"""For the longest wait: "seconds at most"."""


def run(engine: sa.Engine, count: int, bar: Bar) -> Iterator[Row]:
    """Make a backlog of `count` for one client, then let answers to another become due one by one until it is gone."""
    with receiving() as port:
        big, small = f"http://127.0.0.1:{port}/big", f"http://127.0.0.1:{port}/small"
        for first in range(0, count, STEP):
            bar.show("the backlog", first / count)
            given_deliveries(engine, *[webhook(big)] * min(STEP, count - first), first=first, client="big")
        with couriers(engine.url.render_as_string(hide_password=False)):
            until(lambda: _left(engine, big) < count, 30)
            start, given = time.monotonic(), 0
            while left := _left(engine, big):
                bar.show("answers beside it", 1 - left / count)
                given_deliveries(engine, webhook(small), first=count + given, client="small")
                given += 1
                time.sleep(PAUSE_SECONDS)
            until(lambda: len(waits_of(engine, small)) == given, 30)
            seconds = time.monotonic() - start
    waits = waits_of(engine, small)
    note = f"{given:,} answers to another client waited {median(waits):.2f} s in the median"
    aim = at_most(max(waits), AIM_SECONDS, "s at most beside it")
    yield Row("crowded", engine.dialect.name, count, seconds, note=note, aims=(aim,))


def _left(engine: sa.Engine, url: str) -> int:
    row = tables.deliveries.c
    with read(engine) as connection:
        return int(connection.scalar(sa.select(sa.func.sum(row.pending)).where(row.target == url)) or 0)
