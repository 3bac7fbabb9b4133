"""`carpool` with a clock that jumps: `python -m tests.chaos.jumpy worker …`, by the seconds in the file CHAOS_OFFSET.

What jumps is the time of day; the time since the machine started does not, as everywhere.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.chaos import mortal

from carpool_worker import cli

OFFSET = Path(os.environ["CHAOS_OFFSET"])


def offset() -> float:
    """Return the seconds by which the clock is wrong now."""
    return float(OFFSET.read_text() or 0)


def make_jumpy() -> None:
    """Have every look at the clock go by the file."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)


if __name__ == "__main__":
    make_jumpy()
    mortal.shorten_waits()
    mortal.make_porous()
    cli.main()
