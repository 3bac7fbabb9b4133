"""The list that answers to requests enqueued with `reply=True` are pushed to, one for each producer.

All waits of the producer read it, each for itself. A wait that reads what another one wants hands it over; what nobody
wants yet is kept for later waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from threading import Lock
from typing import Protocol

import uuid_utils

from carpool.answers import PackedAnswer
from carpool.contract import REPLIES

KEPT_BYTES = 32_000_000
"""Of answers that were read before anybody waited for them; the oldest are dropped, and found by a Wait."""


SHORT = 1_000
"""Ids of a wait at most that are in one index for all short waits, so that many of them cost no more than one."""


class Reader(Protocol):
    """A wait that reads the list. Any thread may call it."""

    reply_to: str

    def wanted(self, at_most: int) -> list[bytes] | None:
        """Return the ids that it has no answer for yet; None if they are more."""

    def wants(self, id_: bytes) -> bool:
        """Return whether it has no answer yet for this request."""

    def hand(self, answer: PackedAnswer) -> None:
        """Give it an answer that was read before, or by another wait."""


class ReplyList:
    """The list of one producer, and the waits that read it now. Threads may share it."""

    def __init__(self) -> None:
        self.name = REPLIES + uuid_utils.uuid7().hex
        self.is_used = False
        """Whether something was enqueued whose answer will be pushed to the list."""
        self.is_complete = True
        """Whether all that was read from the list was handed to a wait, or is kept."""
        self._lock = Lock()
        self._readers: dict[Reader, list[bytes] | None] = {}
        self._short: dict[bytes, list[Reader]] = {}
        self._kept: OrderedDict[bytes, PackedAnswer] = OrderedDict()
        self._kept_bytes = 0

    def abandoned(self) -> str | None:
        """Return the list's name if it may exist, to be deleted: whoever waits later for what is in it has to ask."""
        self.is_complete = self.is_complete and not self.is_used
        return self.name if self.is_used else None

    def join(self, reader: Reader) -> None:
        """Register a wait, and hand it what is kept for it."""
        with self._lock:
            wanted = self._readers[reader] = reader.wanted(SHORT)
            for id_ in wanted or ():
                self._short.setdefault(id_, []).append(reader)
            for id_ in list(self._kept) if wanted is None else wanted:
                if id_ in self._kept and reader.wants(id_):
                    reader.hand(self._forget(id_))

    def leave(self, reader: Reader, unread: Sequence[PackedAnswer]) -> None:
        """Remove a wait, and keep what it has not returned."""
        with self._lock:
            for id_ in self._readers.pop(reader) or ():
                self._short[id_].remove(reader)
                if not self._short[id_]:
                    del self._short[id_]
        self.hand_over(unread, range(len(unread)))

    def hand_over(self, answers: Sequence[PackedAnswer], spare: Collection[int]) -> set[str]:
        """Hand answers that a wait has read to others that want them; keep those at the places `spare` if nobody does.

        Returns whose lists to wake them by.
        """
        to_wake: set[str] = set()
        with self._lock:
            if not spare and len(self._readers) < 2:
                return to_wake
            long = [reader for reader, ids in self._readers.items() if ids is None]
            for at, answer in enumerate(answers):
                takers = [one for one in (*self._short.get(answer.key, ()), *long) if one.wants(answer.key)]
                for taker in takers:
                    taker.hand(answer)
                    to_wake.add(taker.reply_to)
                if not takers and at in spare:
                    self._keep(answer)
        return to_wake

    def _keep(self, answer: PackedAnswer) -> None:
        if answer.key not in self._kept:
            self._kept[answer.key] = answer
            self._kept_bytes += len(answer.result)
        while self._kept_bytes > KEPT_BYTES:
            self._forget(next(iter(self._kept)))
            self.is_complete = False

    def _forget(self, id_: bytes) -> PackedAnswer:
        answer = self._kept.pop(id_)
        self._kept_bytes -= len(answer.result)
        return answer
