"""The Celery worker as `carpool worker` runs it: its children end when it does, even if it is killed with SIGKILL."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import Event
from pathlib import Path
from socket import gethostname
from threading import Timer
from time import sleep

from celery.signals import worker_process_init, worker_process_shutdown, worker_shutting_down
from celery.worker.consumer.consumer import (
    INVALID_TASK_ERROR,
    MESSAGE_DECODE_ERROR,
    UNKNOWN_FORMAT,
    UNKNOWN_TASK_ERROR,
)
from celery.worker.consumer.consumer import logger as consumer_log

from carpool_worker.app import SHUTDOWN_TIMEOUT, app
from carpool_worker.coordination.keys import QUEUES
from carpool_worker.coordination.locks import slots
from carpool_worker.processes.alive import announce
from carpool_worker.processes.parent_death import end_with_parent
from carpool_worker.settings import settings
from carpool_worker.tasks import agents, calls, enqueue  # noqa: F401  (registers the tasks)
from carpool_worker.telemetry import logs, traces

LONGEST_SHUTDOWN = SHUTDOWN_TIMEOUT + 15.0
"""Seconds from the first signal to the exit. A worker whose Redis is away would otherwise wait for it forever."""

RESTART_SECONDS = 1.0
"""Before a worker that failed starts again."""

log = logs.get_logger(__name__)

_ending = Event()
"""Set once the worker was asked to end; its processes see it, too."""

QUOTING = (UNKNOWN_TASK_ERROR, INVALID_TASK_ERROR, MESSAGE_DECODE_ERROR, UNKNOWN_FORMAT)
"""Celery's log messages about a message that is not a task of Carpool. They quote its body, which can be a prompt."""


def run(queues: str, concurrency: int, alive: str | None = None) -> None:
    """Work on `queues` (comma-separated) with `concurrency` processes, until SIGTERM or SIGINT; then exit.

    `alive` names the file that is touched meanwhile.
    """
    log_format = settings().log_format
    logs.begin(log_format)  # Celery warns before it sets its logging up
    app.conf.is_ending = _ending.is_set  # like the next, before its processes are forked
    app.conf.slots = slots(queues.split(","), concurrency)
    announce(app, Path(alive) if alive else None)
    worker_process_init.connect(_leave_nothing_behind)
    worker_process_init.connect(traces.begin)
    worker_process_shutdown.connect(traces.end)
    worker_shutting_down.connect(_end_in_time)
    consumer_log.addFilter(quote_nothing)
    gc.freeze()  # the children share the imported modules; a collection in each would copy their pages
    # Not worker_main(): the command line that it reads takes longer to import than Celery itself.
    worker = app.Worker(
        queues=queues,
        hostname=node_name(queues.split(",")),
        concurrency=concurrency,
        loglevel="INFO",
        quiet=logs.is_json(log_format),
    )
    worker.start()
    if worker.exitcode and not _ending.is_set():
        _start_again(queues, concurrency, alive)
    raise SystemExit(worker.exitcode)


def node_name(queues: Sequence[str]) -> str:
    """Return this worker's name: with the agents that it serves, as workers of one host must not have one name.

    Whoever asks them, as `carpool doctor` does, else gets the answer of one of them.
    """
    served = "celery" if set(queues) == set(QUEUES) else "-".join(name.rpartition(".")[2] for name in queues)
    return f"{served}@{gethostname()}"


def quote_nothing(record: logging.LogRecord) -> bool:
    """Remove a message's body from the log record; a filter for Celery's consumer that lets every record pass."""
    if record.msg in QUOTING:
        error = record.args[0] if isinstance(record.args, tuple) else None
        reason = repr(error) if isinstance(error, KeyError) else type(error).__name__
        record.msg, record.args, record.exc_info = (
            "unknown message dropped: %s",
            (reason,),
            None,
        )
    return True


def _start_again(queues: str, concurrency: int, alive: str | None) -> None:
    """Replace this process by a new worker: Celery gave up on an error that it does not expect from a lost broker.

    Its children have ended, and what they worked on is done by whoever gets the message next. The new worker checks
    nothing before it starts, but waits for Redis as long as it takes.
    """
    log.error("the worker failed, and starts again")
    sleep(RESTART_SECONDS)
    program = f"from {__name__} import run; run({queues!r}, {concurrency}, {alive!r})"
    os.execv(sys.executable, [sys.executable, "-c", program])  # noqa: S606 (no shell is wanted)


def _end_in_time(**_: object) -> None:
    _ending.set()
    last = Timer(LONGEST_SHUTDOWN, os._exit, (os.EX_TEMPFAIL,))
    last.daemon = True
    last.start()


def _leave_nothing_behind(**_: object) -> None:
    end_with_parent(signal.SIGKILL)  # a child without its parent can't report; its task runs again
