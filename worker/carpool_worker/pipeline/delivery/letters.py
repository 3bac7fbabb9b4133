"""What is sent of a claimed delivery: the answer to a request, or that a client's batch has ended."""

from __future__ import annotations

from carpool.contract import to_json
from carpool_worker.models import ClientBatch
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.policies.client_batches import shown_id
from carpool_worker.store.client_batches.shown import told
from carpool_worker.store.deliveries.outcomes import Claimed
from carpool_worker.store.requests.sendable import Sendable, answer_json, time_text


def outgoing(content: Sendable, claimed: Claimed) -> Outgoing | None:
    """Return what is to be sent; None: the request, or the batch, is no longer kept."""
    if content.batch is not None:
        return _of_batch(content.batch, claimed.target)
    if (request := content.request) is None:
        return None
    return Outgoing(
        request.id,
        request.state,
        claimed.target,
        content.callback,
        time_text(request.finished_at),
        answer_json(content),
        request.trace,
        request.retries or 0,
        client=claimed.client,
    )


def _of_batch(batch: ClientBatch, target: str) -> Outgoing:
    return Outgoing(
        shown_id(batch.id),
        "ended",
        target,
        batch.callback or "",
        time_text(batch.ended_at or 0),
        to_json(told(batch)),
        retries=batch.ends - 1,
        client=batch.client,
        kind="batch",
    )
