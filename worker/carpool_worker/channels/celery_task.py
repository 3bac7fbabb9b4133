"""Callbacks as Celery tasks, sent on the broker that Carpool itself uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase

import celery
from kombu.exceptions import OperationalError

from carpool.callbacks import OWN_NAMES, Task
from carpool.callbacks import decode as decode_callback
from carpool_worker.channels import Event, Outgoing, Sent


class TaskChannel:
    """Sends answers as the one argument of a task."""

    def __init__(self, app: celery.Celery, allowed: Sequence[str]) -> None:
        self._app = app
        self._allowed = allowed

    def lane(self, target: str) -> str:
        """Return the broker, which all tasks share."""
        return "broker"

    async def send(self, outgoing: Outgoing) -> Sent:
        """Send one answer, in a thread, as Celery blocks."""
        callback = decode_callback(outgoing.callback)
        if not isinstance(callback, Task) or not permitted(callback.name, self._allowed):
            return Sent(Event.REFUSED, f"not sent: the task {outgoing.target} is not in CARPOOL_TASK_ALLOWED")
        if callback.queue.startswith(OWN_NAMES):
            return Sent(Event.REFUSED, f"not sent: the queue {callback.queue} is one of Carpool's own")
        try:
            await asyncio.to_thread(self._send, callback, outgoing)
        except (OperationalError, OSError) as error:
            return Sent(Event.FAILED, f"the broker did not take it: {error}")
        return Sent(Event.ACCEPTED)

    def _send(self, callback: Task, outgoing: Outgoing) -> None:
        # What Flower shows of the argument, which would be the answer's text: its worker tells of all that it takes.
        shown = f"(answer of {outgoing.request_id},)"
        answer = json.loads(outgoing.answer)
        self._app.send_task(callback.name, args=[answer], queue=callback.queue, argsrepr=shown)


def permitted(name: str, allowed: Sequence[str]) -> bool:
    """Tell whether a client may have this task sent: it matches a pattern and is none of Carpool's own."""
    return not name.startswith(OWN_NAMES) and any(fnmatchcase(name, pattern) for pattern in allowed)
