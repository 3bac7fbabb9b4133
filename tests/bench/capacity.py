"""What a billion requests a day take, computed from what the stages cost in this run on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from rich.table import Table
from tests.bench import courier, disk
from tests.bench.agents import AGENT
from tests.bench.producer import SERVICE
from tests.bench.rows import Row

from carpool_worker.setting_values import START_QUEUE_LIMIT
from carpool_worker.settings import Settings

DAY_REQUESTS = 1_000_000_000
PEAK = 3.0
"""Times the mean rate."""

MEAN_RATE = DAY_REQUESTS / 86_400
PEAK_RATE = PEAK * MEAN_RATE
HOUR = 3_600.0
MICRO, MEGABYTE, GIGABYTE, TERABYTE = 1e-6, 1e6, 1e9, 1e12

BUSY = 0.5
"""Of a core at the peak: the other half is for vacuum, a standby, retries and what nobody has foreseen."""

CELL_DATABASE_CORES = 4
CELL_VALKEY_BYTES = 16 * GIGABYTE
CELL_WAL_RATE = 60 * MEGABYTE
"""A cell: one PostgreSQL of so many cores that writes so much WAL a second, one Valkey (a core) of so much memory."""

ROWS_KEPT_DAYS = 30.0
"""The rows of requests stay; as much of them is counted as of the answers, about."""

KEPT_DAYS: Mapping[str, float] = {
    f"{disk.TABLE}params": Settings.model_fields["params_retention_days"].default,
    f"{disk.TABLE}answers": Settings.model_fields["answers_retention_days"].default,
}
"""How long a table's rows are kept by default; the others' ROWS_KEPT_DAYS."""

PROCESSING_SECONDS = 1_800.0
"""That a batch is at Anthropic: most are through within an hour."""

POSTGRESQL, VALKEY = "postgresql", "valkey"
ENQUEUE, AGENTS, WEBHOOK = "enqueue_many", ("aggregate", "submit", "collect"), courier.STAGES["https"]
DISK = "disk, prose, 1.2 kB"

MEASURED = {
    "enqueue": {ENQUEUE},
    "agents": set(AGENTS),
    "webhooks": {WEBHOOK},
    "disk": {DISK},
}
"""The rows that are needed, by the stage of the benchmark that measures them."""


def missing(rows: Iterable[Row]) -> set[str]:
    """Return the rows that are needed and not there."""
    return {name for names in MEASURED.values() for name in names} - Costs(rows).stages


class Costs:
    """CPU microseconds and bytes a request, of the rows of this run."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {row.stage: row for row in rows if row.database in ("", POSTGRESQL)}

    @property
    def stages(self) -> set[str]:
        """What was measured."""
        return set(self._rows)

    def cpu(self, stage: str, process: str) -> float:
        """Return what a process took of a stage."""
        return self._rows[stage].cpu_each.get(process, 0.0)

    def sum(self, process: str, *stages: str) -> float:
        """Return what a process took of several stages."""
        return sum(self.cpu(stage, process) for stage in stages)

    def size(self, what: str) -> float:
        """Return bytes on disk or in memory."""
        return self._rows[DISK].sizes[what]

    @property
    def kept(self) -> float:
        """Bytes of a copy of the database, for each request a day, once as much is pruned as comes."""
        sizes = self._rows[DISK].sizes
        return sum(
            size * KEPT_DAYS.get(name, ROWS_KEPT_DAYS)
            for name, size in sizes.items()
            if name.startswith(disk.TABLE)
        )


@dataclass(frozen=True)
class Line:
    """A line of the table: what was measured of a request, and what that comes to."""

    what: str
    measured: str
    computed: str
    how: str


def lines(costs: Costs) -> list[Line]:
    """Return the table's lines."""
    return [*_cores(costs), *_storage(costs), *_wholes(costs)]


def _cores(costs: Costs) -> Iterator[Line]:
    yield _core("services: enqueue_many", costs.cpu(ENQUEUE, SERVICE), "in the services' processes")
    for stage in AGENTS:
        yield _core(f"workers: {stage}", costs.cpu(stage, AGENT), "a process is a core at most")
    yield _core("workers: webhooks over TLS", costs.cpu(WEBHOOK, "courier"), "if each answer is one")
    yield _core("PostgreSQL", costs.sum(POSTGRESQL, *AGENTS), "a primary a cell")
    yield _core("PostgreSQL: webhooks", costs.cpu(WEBHOOK, POSTGRESQL), "if each answer is one")
    yield _core("Valkey", costs.sum(VALKEY, ENQUEUE, *AGENTS), "one a cell")


def _core(what: str, microseconds: float, how: str) -> Line:
    return Line(f"{what}, cores", f"{microseconds:,.1f} µs", f"{microseconds * MICRO * PEAK_RATE:,.2f}", how)


def _storage(costs: Costs) -> Iterator[Line]:
    wal, database, inbox = costs.size(disk.WAL), costs.size(disk.DATABASE), costs.size(disk.INBOX_MEMORY)
    yield Line("WAL, MB/s", f"{wal:,.0f} B", f"{wal * PEAK_RATE / MEGABYTE:,.0f}", "at the peak")
    yield Line("WAL, TB a day", f"{wal:,.0f} B", f"{wal * DAY_REQUESTS / TERABYTE:,.2f}", "archived or not")
    written = f"{database * DAY_REQUESTS / TERABYTE:,.2f}"
    yield Line("disk, TB a day", f"{database:,.0f} B", written, "before anything is pruned")
    days = ", ".join(f"{name.removeprefix(disk.TABLE)} {kept:g} d" for name, kept in KEPT_DAYS.items())
    kept = f"{costs.kept * DAY_REQUESTS / TERABYTE:,.1f}"
    yield Line("disk, TB a copy", "by table", kept, f"{days}, rows {ROWS_KEPT_DAYS:g} d")
    backlog = f"{inbox * PEAK_RATE * HOUR / GIGABYTE:,.0f}"
    yield Line(
        "an hour's backlog, GB", f"{inbox:,.0f} B", backlog, "Valkey's memory, nothing taken for an hour"
    )


def _wholes(costs: Costs) -> Iterator[Line]:
    needs = cells_by_need(costs)
    need = max(needs, key=lambda name: needs[name])
    yield Line("cells", "", f"{needs[need]} + 1 spare", f"for {need}: {_all(needs)}")
    queued = MEAN_RATE * PROCESSING_SECONDS
    accounts = ceil(queued / START_QUEUE_LIMIT)
    how = f"{queued / 1e6:,.0f} M queued at Anthropic, {START_QUEUE_LIMIT:,} an account by default"
    yield Line("accounts, or one with that limit", "", f"{accounts:,}", how)


def cells_by_need(costs: Costs) -> dict[str, int]:
    """Return how many cells each resource asks for, half of each core idle at the peak."""
    database = costs.sum(POSTGRESQL, *AGENTS, WEBHOOK)
    needs = {
        "PostgreSQL's cores": database * MICRO * PEAK_RATE / (CELL_DATABASE_CORES * BUSY),
        "its WAL": costs.size(disk.WAL) * PEAK_RATE / CELL_WAL_RATE,
        "Valkey's core": costs.sum(VALKEY, ENQUEUE, *AGENTS) * MICRO * PEAK_RATE / BUSY,
        "an hour's backlog": costs.size(disk.INBOX_MEMORY) * PEAK_RATE * HOUR / CELL_VALKEY_BYTES,
    }
    return {name: ceil(need) for name, need in needs.items()}


def _all(needs: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {need}" for name, need in needs.items())


def table(rows: Iterable[Row]) -> Table:
    """Return the capacity table."""
    title = f"{DAY_REQUESTS:,} requests a day: {MEAN_RATE:,.0f}/s, at the peak {PEAK_RATE:,.0f}/s"
    found = Table("at the peak", title=title)
    found.add_column("measured here, a request", justify="right")
    found.add_column("computed", justify="right")
    found.add_column("how")
    for line in lines(Costs(rows)):
        found.add_row(line.what, line.measured, line.computed, line.how)
    return found
