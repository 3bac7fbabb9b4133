"""Run a command that ends when its parent does: `python -m carpool_worker.processes.parent_death COMMAND…`.

Without it, a supervisor killed with SIGKILL would leave its programs running. The kernel sends the signal, so this
works for commands that aren't ours (Valkey) too; only Linux can do it (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h. The setting survives exec, but not fork."""


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process `number` when its parent dies; does nothing except on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)


def wrapped(command: list[str]) -> list[str]:
    """Return the command line that runs `command` so that it ends with its parent."""
    return [sys.executable, "-m", __name__, *command]


if __name__ == "__main__":
    end_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
