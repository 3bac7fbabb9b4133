"""Pools the inbox's requests into the open batch of their lane, and seals batches that are full or due.

Rows and counters are committed in one transaction; only then are the entries acknowledged and deleted. A crash in
between leaves them pending: the aggregator that takes them over finds their requests in the table and adds nothing.
Cancel commands come through the inbox too, after their requests, and are applied before they are acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from carpool.contract import Cancel, Envelope
from carpool_worker.database import now, read, write
from carpool_worker.pipeline.batching import canceler, deadlines, poison
from carpool_worker.pipeline.batching.lanes import Filled
from carpool_worker.pipeline.batching.placing import place
from carpool_worker.pipeline.inbox.chunks import Chunk
from carpool_worker.pipeline.inbox.packs import Pack, assigned
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.accounts import Accounts
from carpool_worker.policies.budgets import Budgets
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.windows import LEAD, is_open
from carpool_worker.store.batches import filling
from carpool_worker.store.requests import intake
from carpool_worker.store.requests import rows as requests
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND, Milliseconds

log = get_logger(__name__)

RUN_SECONDS = 20.0
"""A run ends after this long even if the inbox is not empty; the next run takes over."""

SEAL_SECONDS = 0.5
"""While requests keep coming, batches that are due are looked for this often."""

RACES = 5
"""Tries to commit a chunk, as another aggregator may insert one of its requests first."""

NO_BUDGETS: Budgets = {}
NO_ACCOUNTS: Accounts = {}


def aggregate(
    engine: sa.Engine,
    inbox: Inbox,
    limits: Limits,
    report: Callable[[Filled], None],
    budgets: Budgets = NO_BUDGETS,
    *,
    accounts: Accounts = NO_ACCOUNTS,
    gather: float = 0.0,
) -> int:
    """Pool everything in the inbox into batches, seal what is due, and return how many requests were read.

    The `carpool.aggregate` task calls it when there are requests or a batch is due, one at a time for each shard,
    though two at once would do no harm. While requests keep coming, it reads them every `gather` seconds, and those of
    one read are committed together; with 0 it ends with the first look that finds the inbox empty. Of each chunk it
    commits the new requests, then the cancel commands, and only then acknowledges the entries: after a crash the chunk
    is read again, and what was committed is found in the tables. `report` is called after each commit, with the batches
    that were opened, sealed or dissolved, and the requests that ended: canceled, or refused as over budget.

    Raises:
        redis.RedisError, sqlalchemy.exc.OperationalError: Redis or the database is away; the rest stays in the inbox.
    """
    deadline = time.monotonic() + RUN_SECONDS
    count = 0
    report(_sweep(engine))
    report(seal_due(engine, limits))
    sealed_at = time.monotonic()
    for chunk in _until_quiet(inbox, deadline, gather):
        behind = inbox.queued() - chunk.count
        in_force = replace(limits, behind=behind)
        poison.store(inbox, chunk, partial(_store, engine, inbox, in_force, budgets, accounts, report))
        count += chunk.count
        if time.monotonic() > sealed_at + SEAL_SECONDS:
            report(seal_due(engine, limits))
            sealed_at = time.monotonic()
    inbox.leave()
    report(seal_due(engine, limits))
    return count


def _store(
    engine: sa.Engine,
    inbox: Inbox,
    limits: Limits,
    budgets: Budgets,
    accounts: Accounts,
    report: Callable[[Filled], None],
    packs: Sequence[Pack],
    cancels: Sequence[Cancel],
) -> None:
    """Pool requests, then apply cancel commands; raises QuarantineFull if there is no room for those in conflict."""
    filled = pool(engine, assigned(packs, accounts), limits, budgets, inbox.shard.number)
    report(filled)
    inbox.quarantine(filled.conflicting)
    if _apply_cancels(engine, packs, cancels):
        report(_sweep(engine))


def _until_quiet(inbox: Inbox, deadline: float, gather: float) -> Iterator[Chunk]:
    """Yield what is in the inbox, and what comes into it within `gather` seconds each time, until nothing does."""
    came = True
    while came:
        came = False
        for chunk in inbox.chunks():
            yield chunk
            came = True
            if time.monotonic() > deadline:
                return
        if came and gather:
            time.sleep(gather)
        else:
            return


def pool(
    engine: sa.Engine, packs: Sequence[Pack], limits: Limits, budgets: Budgets = NO_BUDGETS, shard: int = 0
) -> Filled:
    """Commit new requests to batches of their lanes, each only once even if another aggregator pools them now."""
    for _ in range(RACES - 1):
        try:
            with write(engine) as connection:
                return _pool(connection, packs, limits, now(), budgets, shard)
        except sa.exc.IntegrityError:
            log.info(
                "raced by another aggregator, trying again",
                requests=sum(len(pack.envelopes) for pack in packs),
            )
    with write(engine) as connection:
        return _pool(connection, packs, limits, now(), budgets, shard)


def seal_due(engine: sa.Engine, limits: Limits) -> Filled:
    """Seal the open batches that are old enough, or have a request that must be submitted or answered soon.

    While the submit windows are closed, age is no reason: a sealed batch could only wait, and would take no requests.
    """
    at = now()
    with write(engine) as connection:
        sealed = filling.seal_to_submit_by(connection, at + LEAD, at)
        sealed += deadlines.send_urgent(connection, limits.deadlines, at)
        if is_open(limits.windows, at):
            sealed += filling.seal_opened_before(connection, at - limits.max_age, at, wait=False)
        return Filled(sealed=sealed)


def seconds_until_due(engine: sa.Engine, limits: Limits) -> float | None:
    """Return the seconds until `seal_due` will have a batch to seal; None if none is open."""
    with read(engine) as connection:
        opened_at, submit_by = filling.open_since(connection)
        urgent = deadlines.leave_at(connection, limits.deadlines).values()
    times = [limits.due_at(opened_at)] if opened_at is not None else []
    times += [Milliseconds(submit_by - LEAD)] if submit_by is not None else []
    times += urgent
    return max(0.0, (min(times) - now()) / SECOND) if times else None


def _pool(
    connection: sa.Connection,
    packs: Sequence[Pack],
    limits: Limits,
    at: Milliseconds,
    budgets: Budgets,
    shard: int,
) -> Filled:
    new, conflicting = _new(connection, packs)
    filled = Filled(conflicting=conflicting)
    place(connection, new, limits, at, budgets, shard, filled)
    return filled


def _new(connection: sa.Connection, packs: Sequence[Pack]) -> tuple[list[Pack], list[Envelope]]:
    """Return the requests that are not in the table yet (of several with one id, the first), and those in conflict.

    Two requests with one idempotency key are the same only if their params are.
    """
    envelopes = [envelope for pack in packs for envelope in pack.envelopes]
    stored = requests.known(connection, [envelope.id for envelope in envelopes])
    first: dict[str, Envelope] = {}
    conflicting = []
    for one in envelopes:
        if one.id not in stored and first.setdefault(one.id, one) is one:
            continue
        known = stored[one.id] if one.id in stored else intake.digest(first[one.id].params)
        if one.idempotency_key is not None and known and known != intake.digest(one.params):
            conflicting.append(one)
    kept = (pack.keeping([one for one in pack.envelopes if first.get(one.id) is one]) for pack in packs)
    return [pack for pack in kept if pack.envelopes], conflicting


def _apply_cancels(engine: sa.Engine, packs: Sequence[Pack], cancels: Sequence[Cancel]) -> int:
    canceled = canceler.apply_remembered(engine, [envelope for pack in packs for envelope in pack.envelopes])
    return canceled + sum(canceler.apply_cancel(engine, command) for command in cancels)


def _sweep(engine: sa.Engine) -> Filled:
    canceled = canceler.sweep(engine)
    return Filled(canceled=canceled.requests, dissolved=canceled.dissolved)
