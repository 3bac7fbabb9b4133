"""One line of the benchmark's table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A stage, and the bare cost of the same work measured in the same run; seconds are of the wall clock."""

    stage: str
    count: int
    seconds: float
    bare: str
    bare_seconds: float
    aim: float | None

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.count / self.seconds

    @property
    def ratio(self) -> float:
        """How many times as long as the bare work it took."""
        return self.seconds / self.bare_seconds
