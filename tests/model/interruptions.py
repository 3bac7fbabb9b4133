"""Points at which an agent's run can be interrupted: before and after every effect on a database, Redis or the API."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import IO, Any

import sqlalchemy as sa

from carpool.contract import Envelope
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import DEFAULT, Credentials
from carpool_worker.claude.fence import Fence
from carpool_worker.exceptions import ClaudeError, ParamsGone
from carpool_worker.pipeline.inbox.stream import Inbox


class Crash(BaseException):
    """The process died here; no `except Exception` of an agent may see it."""


class Refused(sqlite3.OperationalError):
    """The database did not commit: its disk is full, or it went away."""


def crash() -> None:
    raise Crash


def refuse() -> None:
    raise Refused("disk I/O error")


@contextmanager
def ended_early() -> Iterator[None]:
    """Let an agent end by a crash, by a commit that was refused, or as it finds params gone and looks again later."""
    try:
        yield
    except (Crash, ParamsGone):
        pass
    except sa.exc.OperationalError as error:
        if not isinstance(error.orig, Refused):
            raise


@dataclass
class Fuse:
    """Burns down by one at each point; at the last it crashes the agent, or lets another run, perhaps repeatedly.

    Or it has a commit refused, the next one there is.
    """

    left: int | None = None
    again: int | None = None
    act: Callable[[], None] = crash
    burnt: bool = False

    def light(self, left: int, act: Callable[[], None], again: int | None) -> None:
        self.left, self.act, self.again, self.burnt = left, act, again, False

    def put_out(self) -> None:
        self.left = None

    def burn(self, *, in_transaction: bool = False) -> None:
        if self.left is None:
            return
        if self.left > 0:
            self.left -= 1
        elif self.act is crash or in_transaction == (
            self.act is refuse
        ):  # SQLite has one writer: no rival comes in
            self.left, self.burnt = None, True
            try:
                self.act()
            finally:
                self.left = self.again


def make_porous(engine: sa.Engine, fuse: Fuse) -> None:
    """Let every commit on this engine be interrupted, just before and just after it."""
    commit = engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        fuse.burn(in_transaction=True)
        commit(connection)
        fuse.burn()

    engine.dialect.do_commit = do_commit  # type: ignore[method-assign,assignment]


class PorousInbox(Inbox):
    """An inbox whose acknowledgements can be interrupted, and what it quarantines."""

    fuse: Fuse

    def quarantine(self, conflicting: Sequence[Envelope]) -> None:
        super().quarantine(conflicting)
        if conflicting:
            self.fuse.burn()

    def _delete(self, *arguments: bytes | int | str) -> None:
        self.fuse.burn()
        super()._delete(*arguments)
        self.fuse.burn()


class PorousClaude(Claude):
    """A client whose calls can be interrupted; batches end when the model says so, not when the simulator does."""

    def __init__(self, fuse: Fuse, credentials: Credentials = DEFAULT) -> None:
        super().__init__(credentials=credentials)
        self._fuse = fuse
        self.ended: set[str] = set()
        self.canceling: set[str] = set()
        self.list_lags = False
        self.is_stubbed = False
        """Whether the list is empty, whatever there is."""
        self.listed: list[str] = []
        self.posts = 0
        """How often a batch may have been made."""

    def create(self, body: IO[bytes], length: int, headers: Mapping[str, str], fence: Fence) -> RemoteBatch:
        self._fuse.burn()
        self.posts += 1
        made = super().create(body, length, headers, fence)
        self._fuse.burn()
        return self._shown(made)

    def retrieve(self, claude_id: str, headers: Mapping[str, str]) -> RemoteBatch:
        self._fuse.burn()
        return self._shown(super().retrieve(claude_id, headers))

    def cancel(self, claude_id: str, headers: Mapping[str, str]) -> RemoteBatch:
        self._fuse.burn()
        remote = super().cancel(claude_id, headers)
        self.canceling.add(claude_id)
        self._fuse.burn()
        return self._shown(remote)

    def create_for_another(self, body: IO[bytes], length: int) -> RemoteBatch:
        """Post a batch of another program of the workspace."""
        self.posts += 1
        return super().create(body, length, {}, Fence(60))

    def delete_for_another(self, claude_id: str) -> None:
        """Delete a batch of another program."""
        self._client.messages.batches.delete(claude_id)

    def newest(self, headers: Mapping[str, str], limit: int) -> list[RemoteBatch]:
        newest = super().newest(headers, limit)
        self._fuse.burn()
        return [self._shown(remote) for remote in newest if not self._is_late(remote)]

    def list_newest(self, headers: Mapping[str, str]) -> Iterator[RemoteBatch]:
        listed = [remote for remote in super().list_newest(headers) if not self._is_late(remote)]
        self._fuse.burn()
        yield from map(self._shown, listed)

    def results(self, claude_id: str, headers: Mapping[str, str]) -> Iterator[bytes]:
        if claude_id not in self.ended:
            raise ClaudeError("no results yet", status=404)
        for line in super().results(claude_id, headers):
            self._fuse.burn()
            yield line

    def really_newer(self, cursor_id: str | None) -> list[RemoteBatch]:
        """Return the batches made after the cursor as the simulator shows them."""
        return list(takewhile(lambda remote: remote.id != cursor_id, super().list_newest({})))

    def _is_late(self, remote: RemoteBatch) -> bool:
        return self.is_stubbed or (self.list_lags and remote.id not in self.listed)

    def _shown(self, remote: RemoteBatch) -> RemoteBatch:
        if remote.id in self.ended:
            return remote
        status = "canceling" if remote.id in self.canceling else "in_progress"
        return replace(remote, processing_status=status)
