"""A file that a worker or beat touches while it works, so that a probe needs to start nothing.

A worker touches it from the loop that takes messages, and only while that is connected to Redis; beat whenever it has
recorded its heartbeat. So its age says both: a few seconds, and the process is ready; many minutes, and it hangs or has
lost Redis for so long that a restart does no harm.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer.tasks import Tasks

from carpool_worker.exceptions import WorkerError

TOUCH_SECONDS = 10.0
"""How often a worker touches it; beat does so each second."""

ALIVE_FILE = "alive_file"
"""The name in the app's configuration of the file's path; None: there is none."""


def announce(app: Celery, path: Path | None) -> None:
    """Have the worker or beat of this app touch the file; nothing is done if there is none.

    Raises:
        WorkerError: it can't be written.
    """
    app.conf[ALIVE_FILE] = None if path is None else str(path.resolve())
    if path is not None:
        if not os.access(path.resolve().parent, os.W_OK):
            raise WorkerError(f"--alive {path}: this user can't write into {path.resolve().parent}")
        app.steps["consumer"].add(TouchWhileConnected)


def touch(app: Celery) -> None:
    """Touch the file, if there is to be one."""
    if path := app.conf.get(ALIVE_FILE):
        Path(path).touch()


class TouchWhileConnected(bootsteps.StartStopStep):  # type: ignore[misc]
    """Touches the file from the worker's loop, from when it takes messages until its connection is lost."""

    requires = (Tasks,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._timer: Any = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Touch it now and then regularly."""
        touch(consumer.app)
        self._timer = consumer.timer.call_repeatedly(TOUCH_SECONDS, touch, (consumer.app,))

    def stop(self, consumer: Any) -> None:
        """Let it grow old."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    shutdown = stop
