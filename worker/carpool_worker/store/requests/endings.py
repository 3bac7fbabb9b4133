"""The one place where a request ends: its final state, its answer and its delivery are written together.

Nothing else writes a final state (see states.py). In the tests, the database itself enforces that: see
tests/fixtures/owed_deliveries.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

import msgspec
import sqlalchemy as sa

from carpool_worker import transition_log
from carpool_worker.exceptions import ClaudeError
from carpool_worker.formatting import named
from carpool_worker.money.costs import Tokens
from carpool_worker.money.prices import Price
from carpool_worker.states import CANCEL, COMPLETE, DISCARD, RequestState, Transition
from carpool_worker.store.bulk import update_rows
from carpool_worker.store.client_batches import counts
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.rows import NewDelivery
from carpool_worker.store.requests import ended_batches, segments
from carpool_worker.store.requests.rows import Pending, in_states, pending
from carpool_worker.store.requests.segments import AnswersSegment, Place

CANCELED_BODY = b'{"type":"canceled"}'
EXPIRED_BODY = b'{"type":"expired"}'
"""The stored results of requests that were not run, worded as the API words them."""

PLACE = {"answer_id": "bigint", "answer_position": "smallint"}
OWN = {
    "cost": "bigint",
    "list_price": "bigint",
    "input_tokens": "integer",
    "output_tokens": "integer",
    "cache_write_tokens": "integer",
    "cache_read_tokens": "integer",
    "error": "text",
}
"""The columns that differ from ending to ending, with their SQL types. A request that waits has none of OWN."""

CLEARED = ("estimate", "held_at", "retry_at")
"""The columns that an ending sets to NULL: it reserves no money, as the ledger has the cost, and waits for nothing."""


class Concluded(Protocol):
    """A request that ends."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def client(self) -> str:
        """Whose request it is."""

    @property
    def callback(self) -> str | None:
        """Where its answer goes, as JSON."""

    @property
    def client_batch(self) -> str | None:
        """The batch that its client made, as the client knows it."""


class Ending(NamedTuple):
    """How a request ends: its transition, its columns in `requests`, and the answer's bytes."""

    id: str
    client: str
    transition: Transition[RequestState]
    outcome: str
    body: bytes
    callback: str | None  # JSON; if there is one, the answer is delivered to it
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_read_tokens: int | None = None
    cost: int | None = None  # picodollars
    list_price: int | None = None  # picodollars
    error: str | None = None  # the type of the error that it failed with
    reply_to: str | None = None  # the list to which the answer is pushed at once
    client_batch: str | None = None  # the batch that its client made, as the client knows it

    @classmethod
    def succeeded(cls, request: Pending, body: bytes, tokens: Tokens, price: Price | None) -> Ending:
        """Return the ending of a request that was answered."""
        return cls(
            request.id,
            request.client,
            COMPLETE,
            "succeeded",
            body,
            request.callback,
            tokens.input_tokens,
            tokens.output_tokens,
            tokens.cache_write_tokens or None,
            tokens.cache_read_tokens or None,
            cost=price and price.cost,
            list_price=price and price.list_price,
            reply_to=request.terms.reply_to,
            client_batch=request.client_batch,
        )

    @classmethod
    def unanswered(
        cls,
        request: Pending,
        transition: Transition[RequestState],
        outcome: str,
        body: bytes,
        error: str | None,
    ) -> Ending:
        """Return the ending of a request for which Anthropic's result has no message."""
        to = request.terms
        return cls(
            request.id,
            to.client,
            transition,
            outcome,
            body,
            to.callback,
            error=error,
            reply_to=to.reply_to,
            client_batch=request.client_batch,
        )

    @classmethod
    def failed(
        cls,
        request: Concluded,
        kind: str | None,
        message: str,
        transition: Transition[RequestState] = DISCARD,
    ) -> Ending:
        """Return the ending of a request that Carpool itself fails, with an error shaped like the API's."""
        error = {"type": "error", "error": {"type": kind, "message": message}}
        body = msgspec.json.encode({"type": "errored", "error": error})
        return cls(
            request.id,
            request.client,
            transition,
            "errored",
            body,
            request.callback,
            error=kind or "unknown",
            client_batch=request.client_batch,
        )

    @classmethod
    def canceled(cls, request: Concluded, *, has_expired: bool = False) -> Ending:
        """Return the ending of a request that was canceled before it was sent, or has expired before."""
        outcome, body = ("expired", EXPIRED_BODY) if has_expired else ("canceled", CANCELED_BODY)
        to = request.callback
        return cls(request.id, request.client, CANCEL, outcome, body, to, client_batch=request.client_batch)

    def dropped(self) -> Ending:
        """Return the ending of the same request as a canceled one: the answer is dropped, usage and cost stay."""
        return self._replace(transition=CANCEL, outcome="canceled", body=CANCELED_BODY, error=None)

    def expired(self) -> Ending:
        """Return the ending of the same request as an expired one, unless there is an answer."""
        if self.transition is COMPLETE:
            return self
        return self._replace(transition=CANCEL, outcome="expired", body=EXPIRED_BODY, error=None)


def finish(
    connection: sa.Connection, endings: Sequence[Ending], at: int, batch_id: str | None = None
) -> list[AnswersSegment]:
    """Write the final states of requests, their answers, and a delivery for each request with a callback.

    This transaction must have locked the requests, in a state from which their transition may start. `at`
    (milliseconds since the epoch) is when they ended and when their deliveries are due; `batch_id` is for the log.
    Returns the answers as they are stored: requests share a segment only if they have one `reply_to`.

    Raises:
        sqlalchemy.exc.IntegrityError: the id of a segment is taken; the transaction must be rolled back.
    """
    stored = _insert_answers(connection, endings, at)
    places = {id_: Place(one.id, at) for one in stored for at, id_ in enumerate(one.ids)}
    alike: defaultdict[tuple[Transition[RequestState], str], list[Ending]] = defaultdict(list)
    for ending in endings:
        alike[ending.transition, ending.outcome].append(ending)
    for (transition, outcome), some in alike.items():
        _move(connection, transition, outcome, some, places, at, batch_id)
    ended_batches.tell(connection, counts.end(connection, endings, at), at)
    return stored


def _insert_answers(connection: sa.Connection, endings: Sequence[Ending], at: int) -> list[AnswersSegment]:
    """Insert the answers, those with one client, callback and `reply_to` together, and their deliveries."""
    alike: defaultdict[tuple[str, str | None, str | None], list[tuple[str, bytes]]] = defaultdict(list)
    for ending in endings:
        alike[ending.client, ending.callback, ending.reply_to].append((ending.id, ending.body))
    stored: list[AnswersSegment] = []
    called_back: list[NewDelivery] = []
    for (client, callback, _), results in alike.items():
        packed = list(segments.packed_answers(client, results))
        stored += packed
        if callback:
            called_back += [NewDelivery(one.id, client, callback, len(one.ids)) for one in packed]
    segments.insert_answers(connection, stored)
    deliveries.insert(connection, called_back, at)
    return stored


def discard(
    connection: sa.Connection, batch_id: str, ids: Sequence[str], error: ClaudeError, at: int
) -> list[str]:
    """Discard those of `ids` that wait in this batch, with an error shaped like the API's; return their ids."""
    waiting = pending(connection, batch_id, ids)
    endings = [Ending.failed(one, error.kind, str(error)) for one in waiting.values()]
    finish(connection, endings, at, batch_id)
    return list(waiting)


def _move(
    connection: sa.Connection,
    transition: Transition[RequestState],
    outcome: str,
    endings: Sequence[Ending],
    places: Mapping[str, Place],
    at: int,
    batch_id: str | None,
) -> None:
    """Move requests that end alike; only the columns that some of them have are written."""
    own = {name: list(map(attrgetter(name), endings)) for name in OWN}
    own = {name: values for name, values in own.items() if any(one is not None for one in values)}
    rows = [
        (bytes.fromhex(ending.id), *places[ending.id], *values)
        for ending, *values in zip(endings, *own.values(), strict=True)
    ]
    columns = PLACE | {name: OWN[name] for name in own}
    same = {"state": transition.target.value, "outcome": outcome, "finished_at": at} | dict.fromkeys(CLEARED)
    count = update_rows(connection, "requests", columns, rows, in_states(transition.sources), same)
    event = f"requests {transition.target}"
    error = None if transition is COMPLETE else named(one.error or one.outcome for one in endings)
    transition_log.record_many(connection, event, count, move=transition.verb, batch=batch_id, error=error)
