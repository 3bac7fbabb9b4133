"""The budgets that requests are paid from, as the tables and the settings have them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from carpool_worker.policies.budgets import Budget
from carpool_worker.policies.keys import GatewayKey
from carpool_worker.policies.purses import Purse
from carpool_worker.store.requests import reservations


@dataclass(frozen=True)
class Purses:
    """Purses of clients and of keys, by their names."""

    clients: Mapping[str, Purse]
    keys: Mapping[str, Purse]

    def of(self, client: str, key: str | None) -> list[Purse]:
        """Return the purses that a request is paid from."""
        both = self.clients.get(client), self.keys.get(key or "")
        return [purse for purse in both if purse]

    def waited_for(self) -> set[str]:
        """Return the keys whose purse has no room for a request that waits."""
        return {name for name, purse in self.keys.items() if purse.is_waited_for}


def open_purses(
    connection: sa.Connection,
    budgets: Mapping[str, Budget],
    keys: Sequence[GatewayKey],
    at: int,
    waiting: Collection[str] = (),
) -> Purses:
    """Return the purses of these clients' budgets and keys; requests of the clients that are `waiting` are held.

    Whether one waits for its client's budget or for its key's is not asked here: what comes after it waits too, for the
    second that the next release takes.
    """
    clients = reservations.balances(connection, budgets, at) if budgets else {}
    return Purses(
        {
            client: Purse.of(f"client {client}", balance, others_wait=client in waiting)
            for client, balance in clients.items()
        },
        {
            key.name: Purse.of(f"key {key.name}", balance, others_wait=key.client in waiting)
            for key, balance in zip(
                keys, reservations.key_balances(connection, keys, at).values(), strict=True
            )
        },
    )
