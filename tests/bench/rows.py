"""One line of the benchmark's table, and the aims that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Aim:
    """What a stage is to reach: a value, its unit, and its bound, a lower one unless `at_most`."""

    value: float
    unit: str
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        return f"{_figure(self.value)} {self.unit} {sign} {_figure(self.bound)}: {'met' if self.met else 'missed'}"


@dataclass(frozen=True)
class Row:
    """A stage, measured.

    Attributes:
        stage: its name, such as "aggregate".
        database: "sqlite", "postgresql", or "" where there is none.
        count: requests.
        seconds: of the wall clock, for all of them.
        bare: the same work with nothing else around it, in the same run; "" where there is nothing to compare with.
        bare_seconds: that work's seconds.
        cpu: CPU seconds by process name, for all requests.
        peaks: the most memory of one process of each name, in bytes.
        sizes: bytes a request, by what they are.
        note: what else is worth knowing.
        aims: with what they reached.
    """

    stage: str
    database: str
    count: int
    seconds: float
    bare: str = ""
    bare_seconds: float | None = None
    cpu: Mapping[str, float] = field(default_factory=dict)
    peaks: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    aims: tuple[Aim, ...] = ()

    @property
    def name(self) -> str:
        """The stage, and on which database."""
        return f"{self.stage} ({self.database})" if self.database else self.stage

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.count / self.seconds

    @property
    def cpu_each(self) -> Mapping[str, float]:
        """CPU microseconds a request, by process name."""
        return {name: seconds / self.count * 1e6 for name, seconds in self.cpu.items()}


@dataclass(frozen=True)
class PageRow(Row):
    """A page, measured: milliseconds of a look, the statements of one, and the bytes of its HTML."""

    median: float = 0.0
    most: float = 0.0
    statements: float = 0.0
    page_bytes: int = 0


def at_least(value: float, bound: float, unit: str = "/s") -> Aim:
    """Return an aim with a lower bound."""
    return Aim(value, unit, bound)


def at_most(value: float, bound: float, unit: str) -> Aim:
    """Return an aim with an upper bound."""
    return Aim(value, unit, bound, at_most=True)


def median(rows: list[Row]) -> Row:
    """Return the row with the median of the seconds."""
    return sorted(rows, key=lambda row: row.seconds)[len(rows) // 2]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"
