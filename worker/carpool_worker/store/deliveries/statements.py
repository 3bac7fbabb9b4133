"""The statements of store/deliveries/rows.py, in the form that is fastest on each database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.types import TupleType

from carpool_worker.database import is_postgres
from carpool_worker.models.indexes import ASIDE, AVAILABLE
from carpool_worker.models.tables import deliveries, parked_receivers
from carpool_worker.states import CLAIM, DELIVER, RESCUE, STOP, DeliveryState, Transition
from carpool_worker.states import MAKE_AVAILABLE as STAGE
from carpool_worker.store.deliveries.outcomes import Claimed

STEP = 5_000
"""The most rows that one statement makes available or gives up: so no transaction is long; others wait for the next."""

ROWS = 100
"""Rows per statement on SQLite, which allows 32,766 values."""

INSERTED = {
    "answer_id": "bigint",
    "position": "smallint",
    "request_id": "bytea",
    "channel": "text",
    "target": "text",
    "receiver": "text",
    "client": "text",
    "state": "text",
    "attempt": "smallint",
    "due_at": "bigint",
    "pending": "integer",
    "last_error": "text",
    "discarded_at": "bigint",
}
"""The columns of a new row, with their SQL types."""

TRIED = {
    "request_id": "bytea",
    "attempt": "integer",
    "at": "bigint",
    "milliseconds": "integer",
    "status": "integer",
    "detail": "text",
}
"""The columns of an attempt."""

_KEYS = {"answer_id": "bigint", "position": "smallint", "claims": "integer"}
_RECORDED = {
    "state": "text",
    "attempt": "smallint",
    "pending": "integer",
    "delivered": "integer",
    "progress": "text",
    "progress_at": "bigint",
    "last_error": "text",
    "delivered_at": "bigint",
    "discarded_at": "bigint",
}
"""The columns that an outcome writes, besides `due_at`: without a new value that stays as it is."""

_GIVEN = _KEYS | _RECORDED | {"due_at": "bigint"}
_DELIVERING = (
    f"deliveries.state = '{DELIVER.sources[0].value}'"  # a literal: with a parameter, no partial index
)
_AVAILABLE = f"state = '{DeliveryState.AVAILABLE.value}'"


_RECORD = f"""
UPDATE deliveries
SET {", ".join(f"{name} = given.{name}" for name in _RECORDED)}, due_at = coalesce(given.due_at, deliveries.due_at)
FROM {{given}}
WHERE {" AND ".join(f"deliveries.{name} = given.{name}" for name in _KEYS)} AND {_DELIVERING}
RETURNING deliveries.answer_id, deliveries.position"""  # noqa: S608
_NAMES = ", ".join(_GIVEN)
_ARRAYS = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _GIVEN.items())
_RECORD_ALL = sa.text(_RECORD.format(given=f"unnest({_ARRAYS}) AS given({_NAMES})"))
_MARKS = f"({', '.join('?' * len(_GIVEN))})"


def record(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> set[tuple[int, int]]:
    """Write the outcomes of claimed rows; return the keys of those that still belonged to their claim."""
    if is_postgres(connection):
        columns = {name: [row[name] for row in rows] for name in _GIVEN}
        return {(key, position) for key, position in connection.execute(_RECORD_ALL, columns)}
    ours: set[tuple[int, int]] = set()
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        values = f"(WITH given({_NAMES}) AS (VALUES {', '.join([_MARKS] * len(some))}) SELECT * FROM given) AS given"  # noqa: S608
        given = tuple(row[name] for row in some for name in _GIVEN)
        ours |= {
            (key, position)
            for key, position in connection.exec_driver_sql(_RECORD.format(given=values), given)
        }
    return ours


_LATER = f"""
    SELECT {{columns}} FROM deliveries AS later
    WHERE later.{_AVAILABLE} AND (later.receiver, later.client) > (turns.receiver, turns.client)
    ORDER BY later.receiver, later.client LIMIT 1"""  # noqa: S608
_STEPS = {
    "postgresql": f"CROSS JOIN LATERAL ({_LATER.format(columns='later.receiver, later.client')}) AS next",
    "sqlite": f"JOIN deliveries AS next ON next.rowid = ({_LATER.format(columns='later.rowid')})",
}
TURNS = {
    dialect: sa.text(f"""
WITH RECURSIVE turns(receiver, client) AS (
    SELECT CAST(:receiver AS varchar), CAST(:client AS varchar)
    UNION ALL SELECT next.receiver, next.client FROM turns {step}
)
SELECT receiver, client FROM turns
WHERE (receiver <> :receiver OR client <> :client)
AND receiver NOT IN :busy AND (receiver, client) NOT IN :busy_turns
AND receiver NOT IN (SELECT receiver FROM parked_receivers WHERE parked_until > :now)
LIMIT :limit""").bindparams(  # noqa: S608
        sa.bindparam("busy", expanding=True, type_=sa.Text),
        sa.bindparam("busy_turns", expanding=True, type_=TupleType(sa.Text, sa.Text)),
    )
    for dialect, step in _STEPS.items()
}
"""The receivers and clients that follow one of them and have something due; not those that are busy, nor parked ones.

Each is found by one look into the index, so that it does not matter how much is due to those before.
"""

_OLDEST = f"""
    SELECT {{columns}} FROM deliveries AS oldest
    WHERE oldest.{_AVAILABLE} AND oldest.receiver = {{receiver}} AND oldest.client = {{client}}
    ORDER BY oldest.due_at LIMIT :each"""  # noqa: S608
_ON_POSTGRES = _OLDEST.format(
    columns="answer_id, position, due_at", receiver="turn.receiver", client="turn.client"
)
_FIRST, _SECOND = ("json_extract(turn.value, '$[0]')", "json_extract(turn.value, '$[1]')")
_ON_SQLITE = _OLDEST.format(columns="oldest.rowid", receiver=_FIRST, client=_SECOND)
_CLAIM = f"UPDATE deliveries SET state = '{CLAIM.target.value}', claims = claims + 1, due_at = :until"  # noqa: S608
_RETURNED = """deliveries.answer_id, deliveries.position, deliveries.request_id, channel, target, receiver, client,
    attempt + 1, claims, pending, progress"""
_CLAIM_ON_POSTGRES = sa.text(f"""
WITH picked AS (
    SELECT oldest.answer_id, oldest.position, oldest.due_at
    FROM unnest(CAST(:receivers AS text[]), CAST(:clients AS text[])) AS turn(receiver, client)
    CROSS JOIN LATERAL ({_ON_POSTGRES} FOR UPDATE SKIP LOCKED) AS oldest
)
{_CLAIM} FROM picked
WHERE deliveries.answer_id = picked.answer_id AND deliveries.position = picked.position AND deliveries.{_AVAILABLE}
RETURNING {_RETURNED}, picked.due_at""")  # noqa: S608
_PICK_ON_SQLITE = f"""
SELECT picked.rowid, picked.due_at FROM json_each(:turns) AS turn
CROSS JOIN deliveries AS picked ON picked.rowid IN ({_ON_SQLITE})"""  # noqa: S608
_CLAIM_ON_SQLITE = f"""
{_CLAIM} WHERE rowid IN (SELECT value FROM json_each(:picked)) AND {_AVAILABLE}
RETURNING {_RETURNED}, deliveries.rowid"""  # noqa: S608


def claim(
    connection: sa.Connection, turns: Sequence[tuple[str, str]], each: int, until: int
) -> list[Claimed]:
    """Claim up to `each` of the oldest rows of each of these receivers and clients."""
    if is_postgres(connection):
        receivers, clients = (list(column) for column in zip(*turns, strict=True))
        given = {"each": each, "until": until, "receivers": receivers, "clients": clients}
        return [Claimed._make(row) for row in connection.execute(_CLAIM_ON_POSTGRES, given)]
    # In two steps, which one transaction keeps together: RETURNING can't tell what a column was before.
    bounds = {"each": each, "turns": json.dumps(turns)}
    due = {rowid: since for rowid, since in connection.exec_driver_sql(_PICK_ON_SQLITE, bounds)}  # noqa: C416
    rows = connection.exec_driver_sql(_CLAIM_ON_SQLITE, {"until": until, "picked": json.dumps(list(due))})
    return [
        Claimed._make((*row[:-1], due[row[-1]]))._replace(request_id=row[2] and row[2].hex()) for row in rows
    ]


def is_in(transition: Transition[DeliveryState]) -> sa.ColumnElement[bool]:
    """Return the condition that a row is in the only state from which this transition may start."""
    [source] = transition.sources
    return deliveries.c.state == sa.literal_column(f"'{source.value}'")


_TIME_HAS_COME = deliveries.c.due_at <= sa.bindparam("now")


def _make_available(transition: Transition[DeliveryState]) -> ReturningUpdate[Any]:
    row = deliveries.c
    due = sa.select(row.answer_id, row.position).where(ASIDE, is_in(transition), _TIME_HAS_COME)
    first = due.order_by(row.due_at).limit(sa.bindparam("step", STEP)).with_for_update(skip_locked=True)
    # A CTE: as a subquery, PostgreSQL might run it again and again, and take more each time.
    some = first.cte("some").c
    these = row.answer_id == some.answer_id, row.position == some.position
    # The guards once more: they hold the state that a row has when it is locked.
    moved = sa.update(deliveries).where(*these, ASIDE, is_in(transition))
    return moved.values(state=transition.target).returning(row.pending)


MAKE_AVAILABLE = {transition: _make_available(transition) for transition in (STAGE, RESCUE)}
"""Make up to STEP rows available whose `due_at` has come, by the transition."""


def _give_up_stopped() -> ReturningUpdate[Any]:
    row = deliveries.c
    due = sa.select(row.answer_id, row.position).where(AVAILABLE, row.receiver == sa.bindparam("host"))
    first = due.order_by(row.client, row.due_at).limit(sa.bindparam("step", STEP))
    some = first.with_for_update(skip_locked=True).cte("some").c
    these = row.answer_id == some.answer_id, row.position == some.position
    meant = row.channel == "webhook", row.target == sa.bindparam("url")
    given_up = {
        "state": STOP.target,
        "due_at": sa.bindparam("now"),
        "discarded_at": sa.bindparam("now"),
        "last_error": sa.bindparam("reason"),
    }
    return sa.update(deliveries).where(*these, is_in(STOP), *meant).values(given_up).returning(row.pending)


GIVE_UP_STOPPED = _give_up_stopped()
"""Give up what is available for a URL, among the first STEP rows that are available to its receiver."""

OVERDUE = {
    transition: sa.select(sa.literal(1)).where(ASIDE, is_in(transition), _TIME_HAS_COME).limit(1)
    for transition in MAKE_AVAILABLE
}
"""Whether there are such rows."""

NEXT_DUE = [
    *(
        sa.select(sa.func.min(deliveries.c.due_at)).where(ASIDE, is_in(transition))
        for transition in MAKE_AVAILABLE
    ),
    sa.select(sa.func.min(parked_receivers.c.parked_until)),
]
"""When the next delivery can be claimed that can't be claimed now: each is one step in an index."""
