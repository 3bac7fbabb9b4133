"""SQL that locks batches which Anthropic does not have, for whoever takes requests out of them.

There is one order of locks, so that no two agents wait for each other: the queue's or the budgets' lock if it is
needed, these batches by id, their requests by id, and calls in real time.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from carpool_worker.models import Batch
from carpool_worker.models.indexes import unfinished
from carpool_worker.models.tables import batches
from carpool_worker.store.batches.rows import as_batch
from carpool_worker.store.requests.cancellations import UNSENT_STATES


def lock(connection: sa.Connection, ids: Collection[str] | sa.Select[Any]) -> dict[str, Batch]:
    """Return those of these batches that are open or sealed, locked until the transaction ends, by their ids."""
    found = sa.select(batches).where(batches.c.id.in_(ids), unfinished(*UNSENT_STATES))
    locked = connection.execute(found.order_by(batches.c.id).with_for_update())
    return {row.id: as_batch(row) for row in locked}
