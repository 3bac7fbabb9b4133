"""Measures time, this process's work, and the memory and work of processes by name."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

SAMPLE_SECONDS = 0.1

Processes = Callable[[], Mapping[str, list[psutil.Process]]]
"""Returns the processes to watch, by name."""


@dataclass
class Measured:
    """Seconds that went by and that this process worked; bytes at the peak and CPU seconds of each named process."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peaks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    worked: dict[str, float] = field(default_factory=dict)


def this_process() -> Mapping[str, list[psutil.Process]]:
    """Return this process, named `worker`, as the agents run in it."""
    return {"worker": [psutil.Process()]}


@contextmanager
def measured(processes: Processes = this_process) -> Iterator[Measured]:
    """Measure what happens inside."""
    measured = Measured()
    over = threading.Event()
    sampler = threading.Thread(target=_sample, args=(measured, processes, over))
    sampler.start()
    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        yield measured
    finally:
        measured.seconds = time.perf_counter() - start
        measured.cpu_seconds = time.process_time() - cpu_start
        over.set()
        sampler.join()


def _sample(measured: Measured, processes: Processes, over: threading.Event) -> None:
    first: dict[int, float] = {}
    last: dict[int, tuple[str, float]] = {}
    while True:
        for name, group in processes().items():
            for process in group:
                try:
                    memory, times = process.memory_info().rss, process.cpu_times()
                except psutil.Error:  # it has just ended
                    continue
                measured.peaks[name] = max(measured.peaks[name], memory)
                last[process.pid] = name, times.user + times.system
                first.setdefault(process.pid, last[process.pid][1])
        if over.wait(SAMPLE_SECONDS):
            break
    for pid, (name, seconds) in last.items():
        measured.worked[name] = measured.worked.get(name, 0.0) + seconds - first[pid]
