"""Requests leave a batch that Anthropic does not have: canceled, called, adopted, or gathered for their client's turn.

Whoever takes them out has locked the batch (see store/batches/unsent.py) and the requests, and moves these.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.models import Batch
from carpool_worker.policies.limits import item_bytes
from carpool_worker.states import BatchState
from carpool_worker.store.batches import filling, transitions


def leave(
    connection: sa.Connection, batch: Batch, params_bytes: Collection[int], why: str | None = None
) -> int:
    """Subtract requests, of whose params these are the sizes, from their locked batch; return how many it still has.

    A batch that is left empty is dissolved: it ends as `completed`. `why` says where its requests went, unless they
    were canceled.
    """
    left = filling.remove_requests(
        connection, batch.id, len(params_bytes), sum(map(item_bytes, params_bytes))
    )
    if left == 0:
        at = now()
        if batch.state == BatchState.OPEN:
            transitions.seal(connection, batch.id, at)
        transitions.dissolve(connection, batch.id, at, why)
    return left
