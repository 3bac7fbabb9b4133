"""What a billion requests a day take is computed from what the stages cost."""

from __future__ import annotations

from tests.bench import capacity, disk
from tests.bench.capacity import AGENTS, DISK, ENQUEUE, PEAK_RATE, POSTGRESQL, WEBHOOK, Costs
from tests.bench.rows import Row, at_least, at_most

COUNT = 1_000_000
"""So that a second of a stage is a microsecond of a request."""

SIZES = {disk.DATABASE: 900.0, disk.WAL: 1_000.0, disk.INBOX_MEMORY: 400.0, "table params": 450.0}


def rows() -> list[Row]:
    """Stages of 2 µs in their own process, 3 µs in PostgreSQL and 1 µs in Valkey each."""
    agents = [Row(name, POSTGRESQL, COUNT, 9.0, cpu=_cpu("agent")) for name in AGENTS]
    return [
        Row(ENQUEUE, "", COUNT, 9.0, cpu={"service": 2.0, "valkey": 1.0}),
        *agents,
        Row(AGENTS[0], "sqlite", COUNT, 9.0, cpu={"agent": 99.0}),
        Row(WEBHOOK, POSTGRESQL, COUNT, 9.0, cpu=_cpu("courier")),
        Row(DISK, POSTGRESQL, COUNT, 9.0, sizes=SIZES),
    ]


def test_cores_at_the_peak_are_the_microseconds_of_all_requests() -> None:
    computed = {line.what: line.computed for line in capacity.lines(Costs(rows()))}
    assert computed["workers: aggregate, cores"] == f"{2e-6 * PEAK_RATE:,.2f}" == "0.07"
    assert computed["PostgreSQL, cores"] == f"{9e-6 * PEAK_RATE:,.2f}" == "0.31"
    assert computed["Valkey, cores"] == f"{4e-6 * PEAK_RATE:,.2f}" == "0.14"
    assert computed["disk, TB a copy"] == f"{450 * 7 / 1_000:,.1f}" == "3.1"


def test_the_scarcest_resource_decides_the_number_of_cells() -> None:
    needs = capacity.cells_by_need(Costs(rows()))
    assert needs["an hour's backlog"] == 4  # 50 GB, 16 each
    cells = next(line for line in capacity.lines(Costs(rows())) if line.what == "cells")
    assert cells.computed == "4 + 1 spare"


def test_what_was_not_measured_is_missing() -> None:
    assert capacity.missing(rows()) == set()
    assert capacity.missing(rows()[1:]) == {ENQUEUE}


def test_an_aim_says_whether_it_is_met() -> None:
    assert str(at_least(26_000, 25_000)) == "26,000 /s ≥ 25,000: met"
    assert str(at_most(75.5, 60, "µs CPU")) == "75.50 µs CPU ≤ 60.00: missed"


def _cpu(process: str) -> dict[str, float]:
    return {process: 2.0, "postgresql": 3.0, "valkey": 1.0}
