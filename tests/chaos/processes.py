"""Programs that can be killed at any moment: a keeper restarts those that should run, as supervisors do."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from tests.fixtures.waiting import until

from carpool_worker.processes.parent_death import wrapped

LOOK_SECONDS = 0.1
START_SECONDS = 20.0
STOP_SECONDS = 20.0
LAST_LINES = 12


class Program:
    """One process of the stack, started and restarted by the keeper."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.wanted = False
        self.deaths = -1
        self._command = command
        self._environment = environment
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id; None while it is dead."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def children(self) -> list[int]:
        """Return the process ids of its children."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children()] if self.pid else []
        except psutil.NoSuchProcess:
            return []

    def start(self) -> None:
        """Have it started and kept running; return once it runs."""
        self.wanted = True
        until(lambda: self.pid, START_SECONDS, waiting_for=f"{self.name} to start")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; the keeper restarts it once it is dead."""
        if pid := self.pid:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).send_signal(number)

    def kill_child(self, nth: int) -> None:
        """Kill one of its children, chosen by a number; it starts another by itself."""
        if children := self.children():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(children[nth % len(children)]).kill()

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal and keep it stopped until `start`; return once it and its children are gone."""
        self.wanted = False
        if self._process is None:
            return
        family = self._family()
        self.kill(number)
        _, alive = psutil.wait_procs(family, STOP_SECONDS)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, STOP_SECONDS)
        self._process.wait()

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])

    def _family(self) -> list[psutil.Process]:
        try:
            process = psutil.Process(self.pid or 0)
            return [process, *process.children(recursive=True)] if self.pid else []
        except psutil.NoSuchProcess:
            return []

    def revive(self) -> None:
        """Start it if it should run and is dead; the keeper calls this, in the one thread that starts programs."""
        if self.wanted and not self.pid:
            self.deaths += 1
            with self.log.open("ab") as log:
                # In a process group of its own: Ctrl-C reaches the harness alone, which stops everything in order.
                self._process = subprocess.Popen(
                    wrapped(self._command),
                    cwd=self._folder,
                    env=dict(self._environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                )


class Keeper:
    """Starts the programs that should run and are dead. The kernel ends them when this thread ends."""

    def __init__(self) -> None:
        self.programs: dict[str, Program] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper")
        self._thread.start()

    def add(self, program: Program) -> Program:
        """Keep a program running from now on."""
        self.programs = {**self.programs, program.name: program}
        return program

    def close(self) -> None:
        """Kill every program, the youngest first, and stop keeping."""
        for program in reversed(self.programs.values()):
            program.stop()
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for program in self.programs.values():
                program.revive()
