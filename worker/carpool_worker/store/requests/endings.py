"""How requests end: their final state and their delivery, together."""

from __future__ import annotations

import sqlalchemy as sa

from carpool_worker.exceptions import ClaudeError
from carpool_worker.states import DISCARD
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.requests import outcomes


def discard(connection: sa.Connection, batch_id: str, request_id: str, error: ClaudeError, at: int) -> None:
    """Discard one request that waits in this batch, with an error in the shape of the API's own."""
    held = outcomes.pending(connection, batch_id, [request_id]).get(request_id)
    if held is None:
        return
    body = outcomes.errored_body(error.kind, str(error))
    finished = outcomes.Finish(request_id, DISCARD.target, "errored", body, held.callback)
    outcomes.finish(connection, [finished], at, batch_id)
    if held.callback:
        deliveries.insert(connection, [(request_id, held.callback)], at)
