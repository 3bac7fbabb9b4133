"""What is sent of a claimed delivery: the answer to a request, or that a client's batch has ended."""

from __future__ import annotations

import random
from typing import NamedTuple

from carpool.contract import to_json
from carpool_worker.models import ClientBatch
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.pipeline.delivery.in_flight import OpenClaim
from carpool_worker.policies.client_batches import shown_id
from carpool_worker.policies.fairness import Weights
from carpool_worker.policies.turn_queues import TurnQueue
from carpool_worker.store.client_batches.shown import told
from carpool_worker.store.deliveries.outcomes import Claimed
from carpool_worker.store.requests.sendable import Sendable, answer_json, time_text


class Letter(NamedTuple):
    """A claimed delivery with the answer to send."""

    claim: OpenClaim
    content: Sendable


def letter_queue(weights: Weights) -> TurnQueue[Letter]:
    """Return a queue for one receiver, where clients take turns by weight."""
    return TurnQueue(weights, _client_of, _one, random.random)


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


def _client_of(letter: Letter) -> str:
    return letter.claim.claimed.client


def _one(_: Letter) -> int:
    return 1
