"""How `carpool up` ends: in order, within seconds whatever its receivers do, and at once at a second signal.

Each program may be killed at any moment; what it was doing is done again after the next start.
"""

from __future__ import annotations

import signal
import subprocess
import time
from types import FrameType

from carpool_worker.processes.programs_log import ProgramsLog
from carpool_worker.processes.up_screen import console

PATIENCE = 2.0
"""Seconds after which it says what it still waits for."""

AGENTS_END_WITHIN = 4.0
"""Seconds until the agents are killed, so that what they need can end well."""

ALL_END_WITHIN = 6.5
"""Seconds until everything is."""

SERVERS = ("valkey", "simulator")
"""What the others need; they end last."""

WHY = {
    "worker": "the worker, which ends its deliveries",
    "gateway": "the gateway, which ends its calls",
    "valkey": "Valkey",
    "flower": "Flower",
    "console": "the console",
    "metrics": "the metrics",
}
"""What each program may take time for."""


class Stopping:
    """Passes signals on to the supervisor, and sees to it that all has ended in time."""

    def __init__(self, supervisor: subprocess.Popen[bytes], programs: ProgramsLog) -> None:
        self._supervisor = supervisor
        self._programs = programs
        self._began_at = 0.0
        self._signals = 0
        self._has_said = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)

    @property
    def has_begun(self) -> bool:
        """Whether a signal has come."""
        return self._signals > 0

    def hurry(self) -> None:
        """Say what is waited for, and kill what takes too long; called again and again once it has begun."""
        waited = time.monotonic() - self._began_at
        if self._signals > 1 or waited > ALL_END_WITHIN:
            self.kill()
        elif waited > AGENTS_END_WITHIN:
            self._programs.kill(but=SERVERS)
        elif waited > PATIENCE and not self._has_said:
            self._has_said = True
            names = [WHY.get(name, name) for name in self._programs.running() if name not in SERVERS]
            left = ALL_END_WITHIN - PATIENCE
            console.print(f"Waiting {left:.0f} s at most for {', '.join(names) or 'the last of it'} …")

    def kill(self) -> None:
        """End everything at once: the supervisor first, which would start again what ends."""
        self._supervisor.kill()
        self._programs.kill()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            self._began_at = time.monotonic()
            console.print(
                "\nStopping: the worker, beat, the gateway, the console, Flower, the metrics, then what they need. "
                "Ctrl-C again ends them at once."
            )
        self._supervisor.terminate()
