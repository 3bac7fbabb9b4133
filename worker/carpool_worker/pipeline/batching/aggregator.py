"""Pools the inbox's requests into the open batch of their lane, and seals batches that are full or due.

Rows and counters go in with one transaction, and only then are the entries acknowledged and deleted. A kill in between
leaves them pending; whoever takes them over finds their requests in the table and adds nothing. What clients want
canceled stands in the inbox too, behind the requests, and is acted on before it is acknowledged.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import sqlalchemy as sa

from carpool.contract import Envelope, lane_of
from carpool_worker.database import now, write
from carpool_worker.pipeline.batching import budgeter, canceler
from carpool_worker.pipeline.batching.lanes import Filled, Lane, fill
from carpool_worker.pipeline.inbox.stream import Chunk, Inbox
from carpool_worker.policies.budgets import Budgets
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.windows import LEAD, is_open
from carpool_worker.prompt_cache.prefixes import prefix_of
from carpool_worker.store.batches import filling
from carpool_worker.store.requests import intake
from carpool_worker.store.requests import rows as requests
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

RUN_SECONDS = 20.0
"""How long one run goes on while the inbox isn't empty; the next run takes over."""

RACES = 5
"""How often a chunk is tried again after another aggregator inserted one of its requests first."""


NO_BUDGETS: Budgets = {}


def aggregate(
    engine: sa.Engine,
    inbox: Inbox,
    limits: Limits,
    report: Callable[[Filled], None],
    budgets: Budgets = NO_BUDGETS,
) -> int:
    """Take everything from the inbox, seal what is due, and return how many requests were read.

    `report` is called after each commit with the batches that it opened and sealed, and with what ended by it: what was
    canceled, and what its client's budget has no room for.
    """
    deadline = time.monotonic() + RUN_SECONDS
    taken = 0
    report(_sweep(engine))
    report(seal_due(engine, limits))
    for chunk in inbox.chunks():
        report(take(engine, chunk.envelopes, limits, budgets))
        if _mark(engine, chunk):
            report(_sweep(engine))
        inbox.acknowledge(chunk)
        taken += len(chunk.envelopes)
        if time.monotonic() > deadline:
            break
    inbox.leave()
    report(seal_due(engine, limits))
    return taken


def take(
    engine: sa.Engine, envelopes: Sequence[Envelope], limits: Limits, budgets: Budgets = NO_BUDGETS
) -> Filled:
    """Commit the requests that are new to batches, each once, whoever else takes the same ones now."""
    for _ in range(RACES - 1):
        try:
            with write(engine) as connection:
                return pool(connection, envelopes, limits, now(), budgets)
        except sa.exc.IntegrityError:
            log.info("raced by another aggregator, trying again", requests=len(envelopes))
    with write(engine) as connection:
        return pool(connection, envelopes, limits, now(), budgets)


def pool(
    connection: sa.Connection, envelopes: Sequence[Envelope], limits: Limits, at: int, budgets: Budgets
) -> Filled:
    """Put the requests that are not yet in the table into the open batches of their lanes, as far as budgets allow."""
    known = requests.known(connection, [envelope.id for envelope in envelopes])
    fresh = {envelope.id: envelope for envelope in reversed(envelopes) if envelope.id not in known}
    # The first of those that share an id counts.
    shares = budgeter.share(connection, list(reversed(fresh.values())), budgets, at)
    lanes: defaultdict[str, list[Envelope]] = defaultdict(list)
    for envelope in shares.going:
        lanes[lane_of(envelope.model, envelope.headers)].append(envelope)
    budgeter.keep_back(connection, shares, at)
    prefixes = {envelope.id: prefix_of(envelope.params) for envelope in shares.going}
    filled = Filled(refused=[envelope.id for envelope, _ in shares.refused])
    for name in sorted(lanes):  # one order for all aggregators: no deadlock over open batches
        first = lanes[name][0]
        lane = Lane(name, first.model, first.headers)
        place = partial(_insert, connection, name, at, shares.estimates, prefixes)
        alike = sorted(lanes[name], key=lambda envelope: prefixes[envelope.id] or "")
        fill(connection, lane, alike, _params_bytes, place, limits, at, filled)
    return filled


def _mark(engine: sa.Engine, chunk: Chunk) -> int:
    return canceler.mark_arrived(engine, chunk.envelopes) + sum(
        canceler.fulfil(engine, wish) for wish in chunk.wishes
    )


def _sweep(engine: sa.Engine) -> Filled:
    canceled = canceler.sweep(engine)
    return Filled(canceled=canceled.requests, dissolved=canceled.dissolved)


def seal_due(engine: sa.Engine, limits: Limits) -> Filled:
    """Seal the open batches whose first request has waited long enough, or one of them can't wait any longer.

    While the windows are closed the first is no reason: such a batch would only wait sealed, and take no more in.
    """
    at = now()
    with write(engine) as connection:
        sealed = filling.seal_to_submit_by(connection, at + LEAD, at)
        if is_open(limits.windows, at):
            sealed += filling.seal_opened_before(connection, at - int(limits.seconds * 1000), at)
        return Filled(sealed=sealed)


def _insert(
    connection: sa.Connection,
    lane: str,
    at: int,
    estimates: Mapping[str, int],
    prefixes: Mapping[str, str | None],
    batch_id: str,
    envelopes: Sequence[Envelope],
) -> None:
    intake.insert(connection, lane, batch_id, envelopes, at, estimates, prefixes)


def _params_bytes(envelope: Envelope) -> int:
    return len(envelope.params)
