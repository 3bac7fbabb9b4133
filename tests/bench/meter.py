"""Measures time, and the CPU time and memory of processes by name."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

SAMPLE_SECONDS = 0.1
BUSY_SHARE = 0.04
"""Of a core at most that looking at memory takes: the kernel walks all pages of a process for its PSS."""

Processes = Callable[[], Mapping[str, list[psutil.Process]]]
"""Returns the processes to watch, by name."""


@dataclass
class Measured:
    """What a block took.

    Attributes:
        seconds: of the wall clock.
        cpu: user and system seconds by process name, those of its children that have ended included, and those of
            measuring itself left out.
        peaks: the most memory (PSS, in bytes) that one process of each name had when it was looked at.
    """

    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def tree(root: psutil.Process) -> list[psutil.Process]:
    """Return a process and all below it."""
    return [root, *root.children(recursive=True)]


@contextmanager
def measured(processes: Processes) -> Iterator[Measured]:
    """Measure what happens inside."""
    measured = Measured()
    over = threading.Event()
    sampling: list[float] = []  # CPU seconds
    sampler = threading.Thread(target=_sample, args=(measured, processes, over, sampling))
    before = _cpu_seconds(processes)
    sampler.start()
    start = time.perf_counter()
    try:
        yield measured
    finally:
        measured.seconds = time.perf_counter() - start
        over.set()
        sampler.join()
        after = _cpu_seconds(processes)
        after[_own_name(processes)] -= sum(sampling)
        measured.cpu = {name: seconds - before[name] for name, seconds in after.items() if name}


def _cpu_seconds(processes: Processes) -> defaultdict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for name, group in processes().items():
        for process in group:
            with suppress(psutil.Error):  # it has just ended: its parent has its times now
                times = process.cpu_times()
                found[name] += times.user + times.system + times.children_user + times.children_system
    return found


def _own_name(processes: Processes) -> str:
    """Return the name under which this process is watched, or nothing."""
    own = (name for name, group in processes().items() for process in group if process.pid == os.getpid())
    return next(own, "")


def _sample(measured: Measured, processes: Processes, over: threading.Event, sampling: list[float]) -> None:
    """Look at the processes' memory until it is over; the CPU seconds of that go to `sampling`."""
    pause, started = 0.0, time.thread_time()
    while not over.wait(pause):
        start = time.thread_time()
        for name, group in processes().items():
            for process in group:
                with suppress(psutil.Error):  # it has just ended
                    measured.peaks[name] = max(measured.peaks[name], memory(process))
        pause = max(SAMPLE_SECONDS, (time.thread_time() - start) / BUSY_SHARE)
    sampling.append(time.thread_time() - started)


def memory(process: psutil.Process) -> int:
    """Return the bytes of memory of a process: PSS, which counts shared pages in parts; where there is none, RSS."""
    found = process.memory_full_info() if psutil.LINUX else process.memory_info()
    return int(getattr(found, "pss", found.rss))
