"""Group commit: what many coroutines enqueue at the same moment is appended to the inbox in one round trip."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from copy import copy
from typing import NamedTuple

from carpool.entries import CheckedRequest
from carpool.exceptions import CarpoolError, IdempotencyConflict
from carpool.options import Options
from carpool.packer import Packer


class _Waiting(NamedTuple):
    request: CheckedRequest
    appended: asyncio.Future[None]


class GroupedAppend:
    """Appends requests of concurrent coroutines together; each of them learns what became of its own.

    One round trip is out at a time. What is enqueued meanwhile goes with the next, so a lone coroutine waits for
    nobody. A request whose coroutine is canceled before its group leaves is not appended.
    """

    def __init__(self, settings: Options, send: Callable[[Packer], Awaitable[None]]) -> None:
        self._settings = settings
        self._send = send  # sends what a packer holds, and raises what Packer.settle raises
        self._waiting: deque[_Waiting] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def append(self, request: CheckedRequest) -> None:
        """Return once Redis has the request.

        Raises IdempotencyConflict, QueueFull, RedisUnavailable or NotDurable; `unknown` holds the request's id where
        Redis may have it.
        """
        await self.begin(request)

    def begin(self, request: CheckedRequest) -> asyncio.Future[None]:
        """Do the same, and return the future that tells how it ended."""
        loop = asyncio.get_running_loop()
        one = _Waiting(request, loop.create_future())
        self._waiting.append(one)
        if self._sender is None or self._sender.done():
            self._sender = loop.create_task(self._send_all())
        return one.appended

    async def _send_all(self) -> None:
        while self._waiting:
            packer = Packer(self._settings)
            group = self._pack(packer)
            try:
                await self._send(packer)
            except Exception as error:
                _settle(group, packer, error)
            except BaseException:
                for one in (*group, *self._waiting):
                    one.appended.cancel()
                self._waiting.clear()
                raise
            else:
                _settle(group, packer, None)

    def _pack(self, packer: Packer) -> list[_Waiting]:
        """Pack what waits, as much as one round trip carries; return whose requests these are."""
        group, is_enough = [], False
        while self._waiting and not is_enough:
            one = self._waiting.popleft()
            if not one.appended.done():
                group.append(one)
                is_enough = packer.pack(one.request)
        packer.close()
        return group


def _settle(group: list[_Waiting], packer: Packer, error: Exception | None) -> None:
    accepted = set(packer.accepted) if error else set()
    unknown = set(error.unknown) if isinstance(error, CarpoolError) else set()
    for place, one in enumerate(group):
        if one.appended.done():  # its coroutine was canceled meanwhile
            continue
        own = packer.refused.get(place)
        # Twins of this group are accepted if one of them is; one with other params is no twin.
        is_twin = not isinstance(own, IdempotencyConflict) and one.request.id.hex() in accepted
        if error is None or is_twin:
            one.appended.set_result(None)
        else:
            one.appended.set_exception(_own(own or error, one.request.id.hex(), unknown))


def _own(error: Exception, request_id: str, unknown: set[str]) -> Exception:
    """Return the group's error as that of one request; each coroutine raises an instance of its own."""
    own = copy(error)
    own.__cause__, own.__traceback__ = error.__cause__, None
    if isinstance(own, CarpoolError):
        own.accepted = ()
        own.unknown = (request_id,) if request_id in unknown else ()
    return own
