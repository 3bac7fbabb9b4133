"""What an idle `carpool up` works, with its default settings: nothing may spin while there is nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench import places
from tests.bench.meter import measured
from tests.bench.progress import Bar
from tests.bench.rows import Row, at_most
from tests.bench.whole_way import Programs, up

SECONDS = 30
SETTLING_SECONDS = 15.0
"""Until what its programs do once, when they start or run a task first, is mostly done."""

AIM_PERCENT = 2.0
"""Of a core, all programs together but for Flower, which is not Carpool's own."""


def run(seconds: int, bar: Bar) -> Iterator[Row]:
    """Measure it on the embedded SQLite."""
    with places.simulator(), up(None, {}) as (process, _):
        time.sleep(SETTLING_SECONDS)
        bar.show(f"{seconds} s", 0.0)
        with measured(Programs(process.pid, {}).by_name) as spent:
            time.sleep(seconds)
    percent = {name: 100 * worked / spent.seconds for name, worked in spent.cpu.items()}
    flower = percent.pop("flower", 0.0)
    parts = ", ".join(f"{name} {share:.2f}" for name, share in percent.items() if share >= 0.01)
    note = f"{parts}; Flower beside it {flower:.2f}"
    aim = at_most(sum(percent.values()), AIM_PERCENT, "% of a core")
    yield Row("idle", "sqlite", seconds, spent.seconds, note=note, aims=(aim,))
