"""Which programs of a supervisord run, as its log says: each is the leader of a process group of its own."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

EVENT = re.compile(r" (?:spawned: '(?P<name>\w+)' with pid (?P<pid>\d+)|(?:stopped|exited): (?P<ended>\w+) )")


class ProgramsLog:
    """Reads what supervisord has logged since this object was made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = path.stat().st_size if path.exists() else 0

    def running(self) -> Mapping[str, int]:
        """Return the process id of each program that runs, by its name."""
        if not self._path.exists():
            return {}
        with self._path.open("rb") as log:
            log.seek(self._start)
            text = log.read().decode(errors="replace")
        found: dict[str, int] = {}
        for event in EVENT.finditer(text):
            if ended := event["ended"]:
                found.pop(ended, None)
            else:
                found[event["name"]] = int(event["pid"])
        return found

    def kill(self, but: Collection[str] = ()) -> None:
        """End the programs that run, and what they have started, at once; not those named in `but`."""
        for name, pid in self.running().items():
            if name not in but:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
