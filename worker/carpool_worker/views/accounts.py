"""Accounts at Anthropic: how full the queue of each is."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from carpool_worker.policies.accounts import shown
from carpool_worker.settings import Settings
from carpool_worker.store.batches import queue as batch_queue


class Queue(NamedTuple):
    """How many requests Anthropic has of an account, in batches that have not ended, and may have at most."""

    requests: int
    limit: int


def queues(connection: sa.Connection, settings: Settings) -> dict[str, Queue]:
    """Return the queue of each account in the settings, and of each that has batches there; by its name."""
    queued, policy = batch_queue.queued(connection), settings.submit_policy
    names = dict.fromkeys([*policy.account_limits, *queued])
    return {shown(name): Queue(queued[name], policy.limit_of(name)) for name in names}
