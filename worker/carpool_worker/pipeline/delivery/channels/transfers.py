"""Runs libcurl's transfers on an asyncio loop, through its multi socket interface.

libcurl says which sockets it waits for and when it wants to be called next. A post needs two reads and writes of a
socket, so what happens around them counts: the sockets are in a selector of their own, which is one file of the loop,
and they stay there between two transfers of a connection.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pycurl

from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """A transfer ended without an answer, or in the middle of one; `code` is libcurl's, such as pycurl.E_RECV_ERROR."""

    code: int
    text: str


class Transfers:
    """Transfers and the connections that they share; made within a running loop, to be closed by `close`."""

    def __init__(self, most_connections: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: dict[Any, asyncio.Future[TransferFailed | None]] = {}
        self._sockets = WatchedSockets()
        self._loop.add_reader(self._sockets.fileno(), self._on_sockets)
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None  # on the loop's clock
        self._is_called_soon = False
        self._is_closed = False
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, most_connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._sockets.watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._call_in)

    def start(self, curl: Any) -> asyncio.Future[TransferFailed | None]:
        """Start a handle's transfer; the future has its failure, which is no exception of the future.

        A caller that no longer waits must call `abandon`.
        """
        ended = self._running[curl] = self._loop.create_future()
        self._multi.add_handle(curl)
        return ended

    def abandon(self, curl: Any) -> None:
        """End a transfer that still runs, and for which nobody waits."""
        if curl in self._running:
            self._end(curl)

    def abort(self, curl: Any, code: int, text: str) -> None:
        """End a running transfer as failed; its connection is closed."""
        self._settle(curl, TransferFailed(code, text))

    def expect_new_socket(self) -> None:
        """To be called whenever libcurl opens a socket."""
        self._sockets.forget_idle()

    def close(self) -> None:
        """Close all connections; what still runs never ends."""
        self._is_closed = True
        self._loop.remove_reader(self._sockets.fileno())
        for curl in list(self._running):
            self._end(curl)
        self._multi.close()
        self._sockets.close()
        if self._timer:
            self._timer.cancel()

    def _call_in(self, milliseconds: int) -> None:
        # libcurl sets its timer twice a transfer; the loop's is moved only where it would be too late.
        if milliseconds == 0 and not self._is_called_soon:
            self._is_called_soon = True
            self._loop.call_soon(self._on_soon)
        self._due = self._loop.time() + milliseconds / 1_000 if milliseconds > 0 else None
        if self._due and (self._timer is None or self._timer.when() > self._due):
            self._set_timer(self._due)

    def _set_timer(self, due: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_soon(self) -> None:
        self._is_called_soon = False
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _on_timer(self) -> None:
        self._timer = None
        if self._due and self._due > self._loop.time():
            self._set_timer(self._due)
        elif self._due:
            self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, events: int) -> None:
        if not self._is_closed:
            self._multi.socket_action(descriptor, events)
            self._settle_ended()

    def _on_sockets(self) -> None:
        for descriptor, events in self._sockets.ready():
            self._multi.socket_action(descriptor, events)
        self._settle_ended()

    def _settle_ended(self) -> None:
        left = 1
        while left:
            left, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._settle(curl, None)
            for curl, code, text in failed:
                self._settle(curl, TransferFailed(code, text))

    def _settle(self, curl: Any, failure: TransferFailed | None) -> None:
        ended = self._end(curl)
        if not ended.done():  # its task was not canceled
            ended.set_result(failure)

    def _end(self, curl: Any) -> asyncio.Future[TransferFailed | None]:
        self._multi.remove_handle(curl)
        return self._running.pop(curl)


class WatchedSockets:
    """The sockets that libcurl waits for.

    A socket stays registered when its transfer has ended, as the next one will wait for the same. Closed sockets leave
    the kernel's list by themselves, and a new one may get the number of a closed one; so before a socket is opened,
    `forget_idle` forgets all that no transfer waits for.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wanted: dict[int, int] = {}  # events by descriptor
        self._registered: dict[int, int] = {}

    def fileno(self) -> int:
        """Return the descriptor that is readable when a socket is ready."""
        # Each selector that watches many sockets has one; only select(2) has none, and no system needs that any more.
        return self._selector.fileno()

    def watch(self, events: int, descriptor: int, *_: Any) -> None:
        """Watch a socket for these events, or no longer; libcurl calls this."""
        if events in (pycurl.POLL_REMOVE, pycurl.POLL_NONE):
            self._wanted.pop(descriptor, None)
            return
        self._wanted[descriptor] = events
        registered = self._registered.get(descriptor)
        if registered == events:
            return
        if registered is not None:
            self._forget(descriptor)
        self._selector.register(descriptor, events)  # its EVENT_READ and EVENT_WRITE are libcurl's numbers
        self._registered[descriptor] = events

    def ready(self) -> Iterator[tuple[int, int]]:
        """Yield the sockets that are ready, and for what."""
        for key, events in self._selector.select(0):
            if key.fd in self._wanted:
                yield key.fd, events
            elif key.fd in self._registered:
                self._forget(key.fd)  # an idle connection: its server hangs up

    def forget_idle(self) -> None:
        """Stop watching the sockets that no transfer waits for."""
        for descriptor in self._registered.keys() - self._wanted.keys():
            self._forget(descriptor)

    def close(self) -> None:
        """Stop watching."""
        self._selector.close()

    def _forget(self, descriptor: int) -> None:
        del self._registered[descriptor]
        with suppress(KeyError, ValueError):
            self._selector.unregister(descriptor)
