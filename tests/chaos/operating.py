"""What an operator does beside a running stack: Carpool's own commands."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.chaos.stack import Stack

COMMAND_SECONDS = 300.0
"""The longest that a command may take: `reconcile` reads the results of every batch that no table knows."""
TROUBLED = 1
"""The exit code of a command that has found something wrong."""


def carpool(stack: Stack, *arguments: str) -> list[Any]:
    """Run a command, and return the JSON that it printed, a document a line; raises RuntimeError if it can't."""
    ended = subprocess.run(
        [sys.executable, "-m", "carpool_worker.cli", *arguments],
        env=stack.environment,
        cwd=stack.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    if ended.returncode not in (0, TROUBLED):
        raise RuntimeError(f"carpool {arguments[0]} ended with {ended.returncode}: {ended.stderr[-500:]}")
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
