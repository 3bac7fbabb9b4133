"""Adopts batches at Anthropic that have run requests which, by the tables, are still to be posted.

Tables that were set back to a backup, or a replica that lagged behind, know nothing of what was posted since, and would
post it again. Such a batch becomes a batch of ours, with those of its requests that wait. So its answers are collected
as any others, and nothing that it ran is run a second time, whatever became of the batches that the requests wait in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.database import now, write
from carpool_worker.models import Batch
from carpool_worker.pipeline.batching.leaving import leave
from carpool_worker.pipeline.collection import recognition
from carpool_worker.policies.limits import item_bytes
from carpool_worker.states import OUTCOMES
from carpool_worker.store.batches import filling, transitions, unowned, unsent
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests import staging
from carpool_worker.store.requests.places import Stage, as_if_batched, lock_retryable, places
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

Sized = Sequence[tuple[str, int]]
"""Requests, with the bytes of their params."""


class _OnTheMove(Exception):
    """Somebody puts some of the requests into another batch right now."""


class Adopted(NamedTuple):
    """The batch that an adopted one has become, and how many requests it took from others."""

    batch: str
    requests: int


def adopt(
    engine: sa.Engine,
    claude: Claude,
    remote: RemoteBatch,
    headers: Mapping[str, str],
    outcomes: Mapping[str, str],
) -> Adopted | None:
    """Make an ended batch at Anthropic one of ours; return None if none of its requests is still to be posted, or if
    some of these can't be had at the moment: once the batch is ours, nobody looks at its other requests again.

    `outcomes` are those, by id, of the requests that it ran and that were still to be posted when they were read.
    All happens in one transaction: they leave the batches that they wait in, if any, and go into a new one, which has
    ended. An answer to a request that was posted or canceled since is left alone.
    """
    try:
        with write(engine) as connection:
            adopted = _adopt(connection, claude, remote, dict(headers), outcomes)
    except _OnTheMove:
        return None
    except sa.exc.IntegrityError:
        return None  # another process has adopted it: Anthropic's ids are unique in the table
    if adopted:
        log.warning("batch at Anthropic adopted", **adopted._asdict(), claude_id=remote.id)
    return adopted


def _adopt(
    connection: sa.Connection,
    claude: Claude,
    remote: RemoteBatch,
    headers: dict[str, str],
    outcomes: Mapping[str, str],
) -> Adopted | None:
    owners = sorted(set(_unsent(connection, outcomes).values()))
    parent = next((one for id_ in owners if (one := batches.get(connection, id_))), None)
    waiting = _take(connection, owners, outcomes)
    if not _unsent(connection, outcomes).keys() <= {id_ for id_, _ in waiting.all}:
        raise _OnTheMove
    if not waiting.all:
        return None
    parent = parent or as_if_batched(connection, waiting.all[0][0], now())
    batch_id = _insert_ended(connection, parent, waiting, claude, remote, headers, outcomes)
    return Adopted(batch_id, len(waiting.all))


def _unsent(connection: sa.Connection, ids: Mapping[str, str]) -> dict[str, str]:
    """Return those of these requests that are still to be posted, with the batch that each is, or was, in."""
    return {
        id_: place.batch_id for id_, place in places(connection, ids).items() if place.stage is Stage.UNSENT
    }


class _Unsent(NamedTuple):
    """Locked requests, out of batches and about to be tried again."""

    batched: Sized
    retryable: Sized

    @property
    def all(self) -> Sized:
        return [*self.batched, *self.retryable]


def _take(connection: sa.Connection, owners: Sequence[str], ids: Mapping[str, str]) -> _Unsent:
    batched: list[tuple[str, int]] = []
    for owner, batch in unsent.lock(connection, owners).items():
        if leaving := requests.sizes(connection, owner, ids):
            leave(connection, batch, [params_bytes for _, params_bytes in leaving])
            batched += leaving
    return _Unsent(batched, lock_retryable(connection, ids))


def _insert_ended(
    connection: sa.Connection,
    parent: Batch,
    waiting: _Unsent,
    claude: Claude,
    remote: RemoteBatch,
    headers: dict[str, str],
    outcomes: Mapping[str, str],
) -> str:
    """Insert a batch of these requests that has been posted and has ended; return its id."""
    at = now()
    size = sum(item_bytes(params_bytes) for _, params_bytes in waiting.all)
    batch_id = filling.insert_sealed(connection, parent, len(waiting.all), size, at)
    requests.transfer(connection, [id_ for id_, _ in waiting.batched], batch_id)
    staging.stage(connection, batch_id, [id_ for id_, _ in waiting.retryable], at)
    batch = batches.get(connection, batch_id)
    assert batch is not None  # noqa: S101 - inserted above
    poster = recognition.register(connection, claude, headers)
    transitions.submit(
        connection, batch, cursor_id=None, cursor_at=None, poster=poster, looked_at=None, at=at
    )
    expires_at = remote.expires_by(at)
    transitions.accept(
        connection, batch_id, claude_id=remote.id, expires_at=expires_at, in_doubt_at=None, at=at
    )
    counts = Counter(outcomes[id_] for id_, _ in waiting.all)
    named = {outcome: counts[outcome] for outcome in OUTCOMES}
    named["errored"] += len(waiting.all) - sum(named.values())
    transitions.end(connection, batch_id, **named, at=remote.ended_at or at)
    # The tables have lost rows, which makes the posts that follow more careful.
    unowned.add_stranger(connection, remote, json.dumps(headers), at, is_lost=True)
    return batch_id
