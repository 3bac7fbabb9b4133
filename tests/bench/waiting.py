"""Waiting for what the simulator does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.1


def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; raise TimeoutError where it takes too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the simulator has not come so far in {PATIENCE_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
