"""Places new requests: into the open batch of their lane, or aside, as over budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import sqlalchemy as sa

from carpool.contract import Envelope, lane_of
from carpool_worker.pipeline.batching import budgeter
from carpool_worker.pipeline.batching.lanes import Arrived, Filled, Lane, fill
from carpool_worker.pipeline.inbox.packs import Pack, regrouped
from carpool_worker.policies.budgets import Budgets
from carpool_worker.policies.deadlines import DeadlineRule
from carpool_worker.policies.limits import Limits
from carpool_worker.prompt_cache.prefixes import prefix_of
from carpool_worker.store.batches.queue import count_under_way
from carpool_worker.store.requests import intake, segments
from carpool_worker.store.requests.segments import Place
from carpool_worker.units import Milliseconds


def place(
    connection: sa.Connection,
    packs: Sequence[Pack],
    limits: Limits,
    at: Milliseconds,
    budgets: Budgets,
    shard: int,
    filled: Filled,
) -> Mapping[str, Place]:
    """Insert requests, none of which is stored, and fill batches with them; return where their params are.

    `filled` collects what changes its state.

    Raises:
        sqlalchemy.exc.IntegrityError: one of them is stored, or the id of a segment is taken.
    """
    packs = [_due(pack, limits.deadlines) for pack in packs]
    prefixes = {one.id: prefix_of(one.params) for pack in packs for one in pack.envelopes}
    new = regrouped(packs, prefixes)
    envelopes = [envelope for pack in new for envelope in pack.envelopes]
    split = budgeter.split(connection, envelopes, budgets, at)
    places = segments.insert(connection, [(pack.envelopes, pack.packed()) for pack in new])
    budgeter.insert_over_budget(connection, split, places, at)
    filled.refused += [envelope.id for envelope, _ in split.refused]
    lanes = _by_lane(split.within)
    for name in sorted(lanes):  # one order for all aggregators: no deadlock over open batches
        first = lanes[name][0]
        lane = Lane(name, first.model, first.headers, shard, first.account)
        in_force = _in_force(connection, name, limits, at)
        arrived = [Arrived(envelope, places[envelope.id].segment_id) for envelope in lanes[name]]
        for batch_id, part in fill(connection, lane, arrived, in_force, at, filled):
            some = [one.envelope for one in part]
            intake.insert(connection, batch_id, some, places, split.estimates, prefixes)
    return places


def _in_force(connection: sa.Connection, lane: str, limits: Limits, at: Milliseconds) -> Limits:
    return limits.with_lane(count_under_way(connection, lane), at) if limits.are_many_behind else limits


def _by_lane(envelopes: Sequence[Envelope]) -> dict[str, list[Envelope]]:
    lanes: defaultdict[str, list[Envelope]] = defaultdict(list)
    for envelope in envelopes:
        lanes[lane_of(envelope.model, envelope.headers, envelope.account)].append(envelope)
    return lanes


def _due(pack: Pack, rule: DeadlineRule) -> Pack:
    """Return a pack whose requests have the deadlines that their clients' have by default."""
    if not rule.by_client:
        return pack
    return replace(pack, envelopes=[_due_itself(one, rule) for one in pack.envelopes])


def _due_itself(envelope: Envelope, rule: DeadlineRule) -> Envelope:
    if envelope.deadline is not None or envelope.client_batch is not None:
        return envelope
    return msgspec.structs.replace(envelope, deadline=rule.due_at(envelope.client, envelope.enqueued_at))
