"""Makes a client's batch of a spooled create: all of its requests are stored in one transaction, or none.

They don't pass Redis. Each goes into the open batch of its lane, as the aggregator's do, beside everybody's requests. A
request whose params break a rule ends at once with the error, as the API validates late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import sqlalchemy as sa
from uuid_utils import uuid7

from carpool.contract import Envelope, lane_of
from carpool.segments import spans
from carpool_worker import transition_log
from carpool_worker.batch_bodies.spool import Item
from carpool_worker.database import now, write
from carpool_worker.exceptions import KeyReused
from carpool_worker.models import ClientBatch
from carpool_worker.pipeline.batching.lanes import Filled
from carpool_worker.pipeline.batching.placing import place
from carpool_worker.pipeline.batching.spooled_creates import ParamsChecks, SpooledCreate, model_of
from carpool_worker.pipeline.inbox.packs import Pack, assigned, regrouped
from carpool_worker.policies.accounts import Accounts, account_of
from carpool_worker.policies.budgets import Budgets, budget_of
from carpool_worker.policies.client_batches import LIFETIME, shown_id
from carpool_worker.policies.limits import Limits
from carpool_worker.states import REFUSE
from carpool_worker.store import gateway_keys
from carpool_worker.store.batches import filling
from carpool_worker.store.client_batches import rows
from carpool_worker.store.requests import endings, intake, reservations, segments
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.intake import NO_PREFIXES
from carpool_worker.store.requests.reservations import HeldRequest
from carpool_worker.units import Milliseconds

RACES = 5
"""Tries to commit a batch, as the id of a segment may be taken."""


@dataclass(frozen=True)
class BatchTerms:
    """What a create says besides its requests, and what its key adds to it."""

    client: str
    digest: bytes  # SHA-256 of what makes two creates the same: the headers that count, and the body
    received_at: Milliseconds
    headers: Mapping[str, str] = field(default_factory=dict)  # per-batch headers; they choose the lanes
    is_retry: bool = False  # its client says that it repeats a create
    idempotency_key: str | None = None
    gateway_key: str | None = None
    callback: str | None = None  # JSON; told when the batch has ended
    origin: str | None = None  # how URLs of the gateway begin
    priority: int = 0


@dataclass(slots=True)
class Created:
    """A client's batch; `filled` tells what its requests have changed, and is empty if it was there already."""

    batch: ClientBatch
    filled: Filled = field(default_factory=Filled)
    is_new: bool = True


def create(
    engine: sa.Engine,
    given: SpooledCreate,
    terms: BatchTerms,
    limits: Limits,
    budgets: Budgets,
    accounts: Accounts,
    reserve: Callable[[], None] = lambda: None,
) -> Created:
    """Commit a client's batch with all its requests; or return the one that the same create has made before.

    A gateway calls it once the body has arrived whole. It is one transaction: a crash leaves nothing. `reserve` is
    called if the batch is new, before anything of it is stored, and again if that has to be repeated; it may raise.

    Raises:
        KeyReused: the client used the idempotency key for another create.
        sqlalchemy.exc.OperationalError: the database is away.
    """
    for _ in range(RACES - 1):
        try:
            with write(engine) as connection:
                return _create(connection, given, terms, limits, budgets, accounts, reserve)
        except sa.exc.IntegrityError:
            continue
    with write(engine) as connection:
        return _create(connection, given, terms, limits, budgets, accounts, reserve)


def _create(
    connection: sa.Connection,
    given: SpooledCreate,
    terms: BatchTerms,
    limits: Limits,
    budgets: Budgets,
    accounts: Accounts,
    reserve: Callable[[], None],
) -> Created:
    if earlier := _earlier(connection, terms):
        return Created(earlier, is_new=False)
    reserve()
    at = now()
    batch = _new(terms, given.spooled.size, at)
    rows.insert(connection, batch)
    _lock_in_order(connection, given.checks.models, terms, budgets, accounts, at)
    filled = Filled()
    stored: dict[int, None] = {}  # segments, in order
    for first, items in given.chunks():
        valid, refused = _envelopes(items, first, given.checks, terms, batch)
        packs = assigned([one for some in valid.values() for one in _packs(some)], accounts)
        places = place(connection, packs, limits, at, budgets, 0, filled)
        stored |= dict.fromkeys(one.segment_id for one in places.values())
        stored |= dict.fromkeys(_refuse(connection, refused, at))
    rows.set_segments(connection, batch.id, stored)
    transition_log.record(
        connection, "client batch created", batch=shown_id(batch.id), requests=batch.request_count
    )
    made = rows.get(connection, terms.client, batch.id)
    return Created(made or batch, filled)


def _earlier(connection: sa.Connection, terms: BatchTerms) -> ClientBatch | None:
    """Return the batch that this create has made before; none is made of it meanwhile.

    Raises:
        KeyReused: the client used the idempotency key for another create.
    """
    client, key, digest = terms.client, terms.idempotency_key, terms.digest
    named = [] if key is None else [sha256(f"{client}\0{key}".encode()).digest()]
    rows.lock_creates(connection, [sha256(client.encode() + digest).digest(), *named])
    if key is not None and (known := rows.with_key(connection, client, key)):
        if known.digest != digest:
            raise KeyReused
        return known
    if key is not None:
        return None
    return rows.made_before(connection, client, digest, terms.received_at, is_retry=terms.is_retry)


def _new(terms: BatchTerms, size: int, at: Milliseconds) -> ClientBatch:
    return ClientBatch(
        id=filling.new_id(),
        created_at=at,
        expires_at=at + LIFETIME,
        request_count=size,
        processing=size,
        is_retry=terms.is_retry,
        client=terms.client,
        gateway_key=terms.gateway_key,
        digest=terms.digest,
        idempotency_key=terms.idempotency_key,
        callback=terms.callback,
        origin=terms.origin,
    )


def _lock_in_order(
    connection: sa.Connection,
    models: set[str],
    terms: BatchTerms,
    budgets: Budgets,
    accounts: Accounts,
    at: Milliseconds,
) -> None:
    """Lock what `place` locks for all chunks together, in the order in which aggregators do: so none deadlocks."""
    key = terms.gateway_key
    if budget_of(budgets, terms.client) or (key and gateway_keys.with_budgets(connection, {key})):
        reservations.lock(connection)
    lanes: dict[str, tuple[str, str | None]] = {}
    for model in models:
        named = account_of(accounts, terms.client, model)
        lanes[lane_of(model, terms.headers, named)] = model, named
    for lane in sorted(lanes):
        model, account = lanes[lane]
        filling.open_in(connection, lane, model, terms.headers, at, account=account)


def _envelopes(
    items: Sequence[Item], first: int, checks: ParamsChecks, terms: BatchTerms, batch: ClientBatch
) -> tuple[dict[str, list[Envelope]], list[tuple[Envelope, tuple[str, str]]]]:
    """Return the requests that can be sent, by model, and the others, each with its error's type and text."""
    valid: defaultdict[str, list[Envelope]] = defaultdict(list)
    refused = []
    shown = shown_id(batch.id)
    for number, item in enumerate(items, first):
        envelope = Envelope(
            id=uuid7().hex,
            client=terms.client,
            model=model_of(item.params),
            params=bytes(item.params),
            headers=dict(terms.headers),
            callback=None,
            metadata=None,
            idempotency_key=None,
            enqueued_at=batch.created_at,
            priority=terms.priority,
            gateway_key=terms.gateway_key,
            client_batch=shown,
            custom_id=item.custom_id,
            deadline=batch.expires_at,
        )
        if error := checks.errors.get(number):
            refused.append((envelope, error))
        else:
            valid[envelope.model].append(envelope)
    return valid, refused


def _packs(alike: Sequence[Envelope]) -> list[Pack]:
    """Return the requests to one model in as many packs as they need segments."""
    return [Pack(list(alike[span])) for span in spans([len(one.params) for one in alike])]


def _refuse(
    connection: sa.Connection, refused: Sequence[tuple[Envelope, tuple[str, str]]], at: Milliseconds
) -> list[int]:
    """Insert requests that are not sent, and end them with their errors; return the segments with their params."""
    if not refused:
        return []
    envelopes = [envelope for envelope, _ in refused]
    packs = regrouped([Pack([one]) for one in envelopes], dict.fromkeys((one.id for one in envelopes), None))
    places = segments.insert(connection, [(pack.envelopes, pack.packed()) for pack in packs])
    intake.insert_held(connection, envelopes, places, NO_PREFIXES, {}, at, why="invalid")
    held = (
        (HeldRequest(one.id, one.client, 0, None, client_batch=one.client_batch), error)
        for one, error in refused
    )
    endings.finish(connection, [Ending.failed(one, kind, text, REFUSE) for one, (kind, text) in held], at)
    return [one.segment_id for one in places.values()]
