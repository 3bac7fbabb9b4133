"""The whole way: a `carpool up` of real processes, a service that enqueues and takes its answers; and the raw SDK."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
from tests.bench import places, raw_sdk
from tests.bench.meter import measured, tree
from tests.bench.places import NewDatabase
from tests.bench.progress import Bar
from tests.bench.rows import Aim, Row, at_least, at_most, median
from tests.bench.traffic import service

from carpool_worker.processes.data_folder import read_env
from carpool_worker.processes.parent_death import wrapped
from carpool_worker.processes.up import READY

COUNT = 100_000
RATE_AIM, RATIO_AIM, CPU_AIM = 25_000.0, 1.6, 60.0
MEMORY_AIM = 128
"""MB of any process."""

MILLION = 1_000_000
MILLION_MEMORY_AIM = 160
MILLION_SHARE_AIM = 0.9
"""Of the rate with COUNT requests."""

ROUNDS = 3
CONCURRENCY = 4
STOP_SECONDS = 100.0
ANSWERS_WITHIN = 150.0
SLOWEST_RATE = 1_000.0
"""A run is given up after ANSWERS_WITHIN seconds, and those that the requests take at this rate."""

RAW = "raw SDK in memory"
REDIS_URL = "CARPOOL_REDIS_URL"
MEGABYTE = 1_000_000
QUICK_SETTINGS = {
    "CARPOOL_FLUSH_INTERVAL": "1",
    "CARPOOL_POLL_INTERVAL": f"{raw_sdk.POLL_SECONDS:g}",
    "CARPOOL_QUEUE_LIMIT": "10000000",
}


def run(count: int, databases: Sequence[str], bar: Bar) -> Iterator[Row]:
    """Measure the raw SDK and Carpool on each database in turn, ROUNDS times; yield the medians."""
    rows: dict[str, list[Row]] = defaultdict(list)
    with places.simulator() as (_, simulator), places.postgresql() as new_database:
        for number in range(ROUNDS):
            bar.show(f"round {number + 1} of {ROUNDS}", number / ROUNDS)
            rows[RAW].append(raw_sdk.run(count, simulator))
            for kind in databases:
                rows[kind].append(once(kind, new_database, count, simulator))
    raw, *ways = (median(each) for each in rows.values())
    yield raw
    for way in ways:
        compared = replace(way, bare=RAW, bare_seconds=raw.seconds)
        yield replace(compared, aims=(*_aims(compared), _memory(compared, MEMORY_AIM)))


def longest_seconds(count: int) -> float:
    """Return how long `run_million` takes at most."""
    return len(places.DATABASES) * (_longest_once(count) + _longest_once(COUNT) + 2 * STOP_SECONDS)


def run_million(count: int, databases: Sequence[str], bar: Bar) -> Iterator[Row]:
    """Measure the whole way with COUNT requests and then with `count`, a million unless said otherwise."""
    with places.simulator() as (_, simulator), places.postgresql() as new_database:
        for kind in databases:
            few = once(kind, new_database, min(COUNT, count), simulator)
            yield few
            many = once(kind, new_database, count, simulator, bar)
            share = at_least(many.rate / few.rate, MILLION_SHARE_AIM, f"× the rate with {few.count:,}")
            yield replace(many, aims=(share, _memory(many, MILLION_MEMORY_AIM)))


def once(
    kind: str, new_database: NewDatabase, count: int, simulator: psutil.Process, bar: Bar | None = None
) -> Row:
    """Measure from the first enqueue to the last answer, on the embedded SQLite or a new database of PostgreSQL."""
    url = new_database() if kind == "postgresql" else None
    with up(url) as (process, placed), service(placed[REDIS_URL]) as traffic:
        others = {"service": traffic.process, "simulator": simulator}
        if url and (postmaster := places.postmaster(url)):
            others["postgresql"] = postmaster
        with measured(Programs(process.pid, others).by_name) as spent:
            told = traffic.run(count, _longest_once(count), bar)
    note = (
        f"enqueued after {told.enqueue_seconds:.1f} s, first answer after {told.first_answer_seconds:.1f} s, "
        f"last after {told.last_answer_seconds:.1f} s"
    )
    seconds = told.last_answer_seconds
    return Row("whole way", kind, count, seconds, cpu=spent.cpu, peaks=spent.peaks, note=note)


def _longest_once(count: int) -> float:
    return ANSWERS_WITHIN + count / SLOWEST_RATE


def _aims(way: Row) -> Iterator[Aim]:
    yield at_least(way.rate, RATE_AIM)
    yield at_least((way.bare_seconds or 0.0) / way.seconds, RATIO_AIM, "× raw SDK's rate")
    yield at_most(sum(way.cpu_each.values()), CPU_AIM, "µs CPU")


def _memory(row: Row, most: int) -> Aim:
    name, peak = max(row.peaks.items(), key=lambda item: item[1])
    return at_most(peak / MEGABYTE, most, f"MB ({name})")


@contextmanager
def up(
    database_url: str | None, settings: Mapping[str, str] = QUICK_SETTINGS
) -> Iterator[tuple[subprocess.Popen[str], Mapping[str, str]]]:
    """Run `carpool up` in a temporary folder with the API of ANTHROPIC_BASE_URL; its process, and its `env` file."""
    with tempfile.TemporaryDirectory(prefix="carpool-bench-") as folder:
        options = ["--any-port", "--data", folder, "--concurrency", str(CONCURRENCY)]
        process = subprocess.Popen(
            wrapped([sys.executable, "-m", "carpool_worker.cli", "up", *options]),
            cwd=folder,  # no config/carpool.toml there
            env=_environment(database_url, settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            _wait_until_ready(process)
            yield process, read_env(Path(folder))
        finally:
            process.terminate()
            process.communicate(timeout=STOP_SECONDS)


class Programs:
    """The processes of a `carpool up` by their program's name, and others beside it with all below them."""

    def __init__(self, up_pid: int, others: Mapping[str, psutil.Process]) -> None:
        self._up = psutil.Process(up_pid)
        self._others = others
        self._names: dict[int, str] = {}

    def by_name(self) -> Mapping[str, list[psutil.Process]]:
        """Return those that run now; the worker's children are `worker` as it is."""
        found = defaultdict(list, {name: tree(root) for name, root in self._others.items()})
        for process in self._up.children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                found[self._name(process)].append(process)
        return found

    def _name(self, process: psutil.Process) -> str:
        if process.pid not in self._names:
            # Valkey writes its title over its environment; what has no program's name otherwise is the supervisor
            other = "valkey" if process.name().startswith("valkey") else "supervisor"
            self._names[process.pid] = process.environ().get("SUPERVISOR_PROCESS_NAME") or other
        return self._names[process.pid]


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    printed = []
    for line in process.stdout or ():
        printed.append(line)
        if line.strip() == READY:
            return
    raise RuntimeError(f"`carpool up` did not come up:\n{''.join(printed)}")


def _environment(database_url: str | None, settings: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CARPOOL_")}
    return kept | dict(settings) | ({"CARPOOL_DATABASE_URL": database_url} if database_url else {})
