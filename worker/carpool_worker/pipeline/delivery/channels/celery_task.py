"""Callbacks as Celery tasks, sent on the broker that Carpool itself uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import partial
from types import TracebackType
from typing import Any, Self

import celery
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import OutOfMemoryError, RedisError

from carpool.callbacks import OWN_NAMES, Task
from carpool.callbacks import decode as decode_callback
from carpool_worker.coordination.backlog import unread_in
from carpool_worker.coordination.broker_urls import KEY_PREFIX_OPTION, is_redis
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.pipeline.delivery.channels.queue_room import MEMORY_FULL, QueueState, Rooms, look
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.settings import Settings
from carpool_worker.telemetry.traces import delivering

THREADS = 8
"""Tasks sent at a time: sending through Celery blocks."""

BROKER_TIMEOUT = 5.0
"""Seconds that the broker may take for one command."""

AWAY = (OperationalError, ChannelError, RedisError, OSError)
"""Raised while the broker can't be reached, or refuses."""

HEADERS_BYTES = 1_000
"""About what a message takes besides its answer."""

DELIVERY_ID = "delivery_id"
"""The header of a message that says what a webhook's `webhook-id` says."""


class TaskChannel:
    """Sends answers as the one argument of a task; used as a context manager, which owns the connections."""

    def __init__(self, app: celery.Celery, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        # The worker's own connections rightly wait for a broker forever; these must not.
        names = (
            ("socket_timeout", "socket_connect_timeout") if is_redis(settings.broker) else ("write_timeout",)
        )
        options: dict[str, Any] = dict.fromkeys(names, BROKER_TIMEOUT)
        if settings.key_prefix:
            options[KEY_PREFIX_OPTION] = ""  # the queue is the service's own, whose Celery knows no prefix
        self._connections = app.connection_for_write(transport_options=options).Pool(limit=THREADS)
        self._threads = ThreadPoolExecutor(THREADS, "courier-broker")
        self._rooms = Rooms(settings.task_queue_limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self._connections.force_close_all()

    async def send(self, outgoing: Outgoing) -> Sent:
        """Send one answer, in a thread."""
        callback = decode_callback(outgoing.callback)
        if not isinstance(callback, Task) or not permitted(callback.name, self._settings.task_allowed):
            return Sent(Event.REFUSED, f"not sent: the task {outgoing.target} is not in CARPOOL_TASK_ALLOWED")
        if self._is_own(callback.queue) or not permitted(callback.queue, self._settings.task_queues_allowed):
            reason = f"not sent: the queue {callback.queue} is not in CARPOOL_TASK_QUEUES_ALLOWED, or is Carpool's own"
            return Sent(Event.REFUSED, reason)
        try:
            loop = asyncio.get_running_loop()
            no_room = await loop.run_in_executor(self._threads, self._send, callback, outgoing)
        except AWAY as error:
            if isinstance(error, OutOfMemoryError) or isinstance(error.__cause__, OutOfMemoryError):
                return Sent(Event.FULL, MEMORY_FULL)
            return Sent(Event.FAILED, f"the broker did not accept it: {error}")
        return Sent(Event.FULL, no_room) if no_room else Sent(Event.ACCEPTED)

    def _is_own(self, queue: str) -> bool:
        """Return whether a queue would be a key of Carpool's own: OWN_NAMES, behind the prefix."""
        prefix = self._settings.key_prefix
        return bool(prefix) and queue.startswith(prefix) and queue.removeprefix(prefix).startswith(OWN_NAMES)

    def _send(self, callback: Task, outgoing: Outgoing) -> str | None:
        """Send one answer; return why if there is no room for it."""
        # In place of the argument, which Flower would show: it is the answer's text.
        redacted = f"(answer of {outgoing.request_id},)"
        answer = json.loads(outgoing.answer)
        to = {"queue": callback.queue, "retry": False}  # the courier tries again, by its own schedule
        with (
            self._connections.acquire(block=True) as connection,
            self._rooms.place(callback.queue, _size(outgoing), partial(_look, connection)) as refusal,
        ):
            if refusal is None:
                with delivering("task", outgoing.request_id, outgoing.trace) as traced:
                    headers = {DELIVERY_ID: outgoing.delivery_id, **traced}
                    sent = {"argsrepr": redacted, "headers": headers, "connection": connection}
                    self._app.send_task(callback.name, args=[answer], **sent, **to)
        return refusal


def _look(connection: Any, queue: str) -> QueueState:
    if connection.transport.driver_type == "redis":
        with connection.default_channel.conn_or_acquire() as server:
            return look(server, queue)
    return QueueState(unread_in(connection, queue))


def _size(outgoing: Outgoing) -> int:
    return len(outgoing.answer) * 4 // 3 + HEADERS_BYTES  # kombu sends the body in base64


def permitted(name: str, allowed: Sequence[str]) -> bool:
    """Return whether a client may name this task or queue: it matches a pattern and is none of Carpool's own."""
    return not name.startswith(OWN_NAMES) and any(fnmatchcase(name, pattern) for pattern in allowed)
