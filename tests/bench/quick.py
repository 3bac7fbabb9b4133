"""Ten thousand requests with a flush of one second and batches that take one: how long stages wait for each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.bench import places
from tests.bench.progress import Bar
from tests.bench.rows import Row, at_most, median
from tests.bench.traffic import service
from tests.bench.whole_way import ANSWERS_WITHIN, REDIS_URL, up

COUNT = 10_000
AIM_SECONDS = 2.8
BATCH_SECONDS = 1.0
ROUNDS = 3


def run(count: int, databases: Sequence[str], bar: Bar) -> Iterator[Row]:
    """Measure it on either database, ROUNDS times on the same Carpool; yield the medians."""
    for kind in databases:
        with places.simulator(BATCH_SECONDS), places.DATABASES[kind]() as new_database:
            url = new_database() if kind == "postgresql" else None  # else the embedded one
            with up(url) as (_, placed), service(placed[REDIS_URL]) as traffic:
                rows = []
                for number in range(ROUNDS):
                    bar.show(f"{kind}, round {number + 1} of {ROUNDS}", number / ROUNDS)
                    seconds = traffic.run(count, ANSWERS_WITHIN).last_answer_seconds
                    rows.append(Row("1 s flush, 1 s batch", kind, count, seconds))
            row = median(rows)
            yield replace(row, aims=(at_most(row.seconds, AIM_SECONDS, "s"),))
