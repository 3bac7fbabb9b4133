"""Whose turn it is, where there is not room for all: what each client has waiting, its share, and what goes when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.database import now
from carpool_worker.pipeline.submission.admission import in_turns_of_clients, lines
from carpool_worker.policies.accounts import shown
from carpool_worker.policies.fairness import weight_of
from carpool_worker.settings import Settings
from carpool_worker.store.batches import turns


@dataclass(frozen=True, kw_only=True)
class ClientTurnView:
    """A client with requests in sealed batches that there is no room for; the next to go has the place 1.

    Its share is what it gets of the room while all of these wait: its weight beside theirs, from 0 to 1.
    """

    account: str
    client: str
    place: int
    waiting: int
    weight: float
    share: float
    next_batch: str


@dataclass(frozen=True)
class BatchTurn:
    """The turn on which a batch goes: how many go before it, and whose turn it is; "" if that is nobody's."""

    before: int
    client: str


@dataclass(frozen=True)
class AllTurns:
    """The turns of all accounts that have not room for all."""

    clients: Sequence[ClientTurnView]
    batches: dict[str, BatchTurn]


def queues(connection: sa.Connection, settings: Settings) -> AllTurns:
    """Return whose turn it is, in order, and the place of each batch."""
    weights = settings.client_weights
    clients: list[ClientTurnView] = []
    batches: dict[str, BatchTurn] = {}
    for line in lines(connection, now(), settings.submit_policy):
        if not line.is_pressed:
            continue
        order = in_turns_of_clients(connection, line, weights)
        waiting, first = Counter[str](), dict[str, str]()
        for before, (batch, whose) in enumerate(order):
            batches[batch.id] = BatchTurn(before, whose or "")
            for client, share in turns.unsent(connection, batch).shares.items():
                waiting[client] += share.requests
                first.setdefault(client, batch.id)
        total = sum(weight_of(weights, client) for client in waiting)
        clients += [
            ClientTurnView(
                account=shown(line.account),
                client=client,
                place=place,
                waiting=waiting[client],
                weight=weight_of(weights, client),
                share=round(weight_of(weights, client) / total, 4),
                next_batch=batch_id,
            )
            for place, (client, batch_id) in enumerate(first.items(), 1)
        ]
    return AllTurns(clients, batches)
