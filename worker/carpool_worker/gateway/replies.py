"""The answers that calls wait for: one reply list and one loop for all of a process.

The worker pushes an answer to the list as soon as it is there, if the request's entry names it. For a request that
another gateway enqueued, or whose answer did not come by itself, the worker is asked by a Wait (carpool/waiting.py).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import uuid_utils

from carpool.aio_connections import LoopConnections
from carpool.answers import unpack_answers
from carpool.contract import REPLIES, WAITS, WAITS_TTL, Answer, Wait, encode_wait
from carpool.exceptions import InvalidAnswer
from carpool.options import BLOCK_SECONDS, RECONNECT_SECONDS
from carpool.packer import Command
from carpool.pipelining import LOST
from carpool.waiting import REPEAT_AFTER, WAIT_IDS
from carpool_worker.gateway.timers import SharedTimer
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

READ_ITEMS = 16
"""In one read: each may be 200 answers."""

ASK_SECONDS = 0.25
"""Between two looks at what is to be asked for."""

_decode_answer = msgspec.json.Decoder(Answer).decode


class Waiting:
    """A call that waits for the answer to a request."""

    __slots__ = ("_answer", "_error", "_timer", "_woken")

    def __init__(self, timer: SharedTimer) -> None:
        self._timer = timer
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._woken: asyncio.Future[None] | None = None

    async def within(self, seconds: float) -> Answer | None:
        """Return the answer if it comes within so many seconds, else None; raises what the wait was ended with."""
        if self._answer is None and self._error is None:
            self._woken = asyncio.get_running_loop().create_future()
            self._timer.wake(self._woken, seconds)
            await self._woken
        if self._error is not None:
            raise self._error
        return self._answer

    def end(self, answer: Answer | None, error: Exception | None = None) -> None:
        """Pass the answer on, or an error."""
        if self._answer is None and self._error is None:
            self._answer, self._error = answer, error
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


@dataclass(slots=True)
class _Awaited:
    client: str
    due: float  # by the loop's clock, when the worker is asked for it
    asked: int = 0
    calls: list[Waiting] = field(default_factory=list)


class ReplyReader:
    """Reads the answers to the calls that this process holds."""

    def __init__(self, redis: LoopConnections) -> None:
        self.name = REPLIES + uuid_utils.uuid7().hex
        self._redis = redis
        self._awaited: dict[str, _Awaited] = {}
        self._timer = SharedTimer()
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len(self._awaited)

    def start(self) -> None:
        """Begin to read, in the running event loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._read_all()), loop.create_task(self._ask_all())]

    async def close(self) -> None:
        """Stop reading, and remove the list."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(*LOST):
            await self._redis.execute([("DEL", self.name)])

    def expect(self, request_id: str, client: str, *, is_ours: bool) -> Waiting:
        """Begin to wait for the answer to a request, until `leave`; `is_ours` says that its entry names this list.

        Several calls may wait for the same request.
        """
        due = asyncio.get_running_loop().time() + (REPEAT_AFTER[0] if is_ours else 0.0)
        awaited = self._awaited.get(request_id)
        if awaited is None:
            awaited = self._awaited[request_id] = _Awaited(client, due)
        awaited.due = min(awaited.due, due)
        waiting = Waiting(self._timer)
        awaited.calls.append(waiting)
        return waiting

    def leave(self, request_id: str, waiting: Waiting) -> None:
        """Wait no longer."""
        awaited = self._awaited.get(request_id)
        if awaited is None or waiting not in awaited.calls:
            return  # it has its answer
        awaited.calls.remove(waiting)
        if not awaited.calls:
            del self._awaited[request_id]

    def cut(self, error: Callable[[], Exception]) -> None:
        """End all waits with an error, each with one of its own."""
        for awaited in self._awaited.values():
            for waiting in awaited.calls:
                waiting.end(None, error())

    async def _read_all(self) -> None:
        command = ("BLMPOP", BLOCK_SECONDS, 1, self.name, "LEFT", "COUNT", READ_ITEMS)
        while True:
            try:
                [reply] = await self._redis.read(command)
            except LOST as error:
                reply = error
            if isinstance(reply, Exception):
                await self._lost(reply)
                continue
            for item in reply[1] if reply else ():
                self._receive(item)

    async def _lost(self, error: Exception) -> None:
        # What was read and did not arrive is gone, so everything is asked for again.
        log.warning("replies not read", error=type(error).__name__)
        self._ask_again()
        await asyncio.sleep(RECONNECT_SECONDS)

    def _ask_again(self) -> None:
        now = asyncio.get_running_loop().time()
        for awaited in self._awaited.values():
            awaited.due, awaited.asked = now, 0

    def _receive(self, item: bytes) -> None:
        try:
            if item.startswith(b"{"):
                answer = _decode_answer(item)
                self._settle(answer.id, answer)
                return
            for packed in unpack_answers(item) if item else ():
                if packed.id in self._awaited:
                    self._settle(packed.id, packed.answer())
        except (msgspec.MsgspecError, InvalidAnswer, ValueError) as error:
            log.warning("unreadable reply dropped", bytes=len(item), error=type(error).__name__)

    def _settle(self, request_id: str, answer: Answer) -> None:
        if awaited := self._awaited.pop(request_id, None):
            for waiting in awaited.calls:
                waiting.end(answer)

    async def _ask_all(self) -> None:
        while True:
            await asyncio.sleep(ASK_SECONDS)
            if waits := self._waits(asyncio.get_running_loop().time()):
                asked: list[Command] = [("RPUSH", WAITS, *waits), ("EXPIRE", WAITS, WAITS_TTL)]
                try:
                    await self._redis.execute(asked)
                except LOST:  # which the reader may not notice, if Redis was away for a moment
                    self._ask_again()

    def _waits(self, now: float) -> list[bytes]:
        due: defaultdict[str, list[str]] = defaultdict(list)
        for request_id, awaited in self._awaited.items():
            if awaited.due <= now:
                due[awaited.client].append(request_id)
                awaited.due = now + REPEAT_AFTER[min(awaited.asked, len(REPEAT_AFTER) - 1)]
                awaited.asked += 1
        return [
            encode_wait(Wait(client, self.name, ids))
            for client, all_ids in due.items()
            for ids in _slices(all_ids)
        ]


def _slices(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + WAIT_IDS] for start in range(0, len(ids), WAIT_IDS))
