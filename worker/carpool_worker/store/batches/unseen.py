"""SQL about batches that no API key may see: whose workspace none of the keys at hand is known to be of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.models.indexes import UNFINISHED
from carpool_worker.models.tables import batches
from carpool_worker.store.bulk import one_of
from carpool_worker.units import Milliseconds

ROW = batches.c


class Unseen(NamedTuple):
    """How many batches no key may see, and since when the first (milliseconds since the epoch)."""

    batches: int
    since: int


def begin(connection: sa.Connection, ids: Sequence[str], at: Milliseconds) -> int:
    """Record since when no key may see these batches; return of how many that is new."""
    seen = sa.update(batches).where(one_of(connection, ROW.id, ids), UNFINISHED, ROW.unseen_since.is_(None))
    return connection.execute(seen.values(unseen_since=at)).rowcount


def end(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Record that there is a key that may see these batches."""
    hidden = sa.update(batches).where(one_of(connection, ROW.id, ids))
    connection.execute(hidden.values(unseen_since=None))


def set_poster(connection: sa.Connection, batch_id: str, poster: str) -> None:
    """Record whose key sees a batch that has no poster, as an earlier version has posted it."""
    unknown = sa.update(batches).where(ROW.id == batch_id, ROW.poster.is_(None))
    connection.execute(unknown.values(poster=poster))


def by_account(connection: sa.Connection) -> dict[str | None, Unseen]:
    """Count, by account, the batches that no key may see."""
    hidden = sa.select(ROW.account, sa.func.count(), sa.func.min(ROW.unseen_since))
    found = connection.execute(hidden.where(UNFINISHED, ROW.unseen_since.is_not(None)).group_by(ROW.account))
    return {account: Unseen(count, since) for account, count, since in found}
