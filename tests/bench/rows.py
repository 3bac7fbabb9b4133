"""One line of the benchmark's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A stage, and the bare cost of the same work measured in the same run; seconds are of the wall clock.

    The last two where they say something: CPU seconds of the measured process, which hardly depend on what else the
    machine does; and the most memory that processes held, in bytes by their name.
    """

    stage: str
    count: int
    seconds: float
    bare: str
    bare_seconds: float
    aim: float | None  # items a second
    cpu_seconds: float | None = None
    peaks: Mapping[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.count / self.seconds

    @property
    def ratio(self) -> float:
        """How many times as long as the bare work it took."""
        return self.seconds / self.bare_seconds
