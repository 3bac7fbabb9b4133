"""The statements of store/deliveries/, built once; those for many rows in the form that is fastest on each database."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from carpool_worker.database import is_postgres
from carpool_worker.models.indexes import UNDELIVERED
from carpool_worker.models.tables import deliveries, requests
from carpool_worker.states import CLAIM as CLAIMING
from carpool_worker.states import DELIVER, GIVE_UP, MAKE_AVAILABLE, SNOOZE, DeliveryState, Transition
from carpool_worker.states import RESCUE as RESCUING


class Bulk:
    """One statement for many rows: run once per row (SQLite), or once with an array per column (PostgreSQL)."""

    def __init__(self, each: sa.ClauseElement, arrays: sa.Executable) -> None:
        compiled: Any = each.compile(dialect=sqlite.dialect())
        self._each = str(compiled)
        self._names = itemgetter(*compiled.positiontup)
        self._arrays = arrays

    def run(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Execute the statement for these rows, which all have the same keys."""
        if not rows:
            return
        if is_postgres(connection):
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            connection.execute(self._arrays, columns)
        else:  # bypassing SQLAlchemy, whose handling of parameters would take longer than SQLite itself
            connection.exec_driver_sql(self._each, list(map(self._names, rows)))


def _may(*transitions: Transition[DeliveryState]) -> sa.ColumnElement[bool]:
    # Literals: with parameters, a prepared statement could not use the partial index.
    literals = sorted({f"'{source.value}'" for transition in transitions for source in transition.sources})
    guards: list[sa.ColumnElement[bool]] = [
        deliveries.c.state == sa.literal_column(text) for text in literals
    ]
    return sa.or_(*guards)


def _given(columns: dict[str, Any]) -> sa.TableValuedAlias:
    arrays = [sa.bindparam(name, type_=postgresql.ARRAY(kind)) for name, kind in columns.items()]
    names = [sa.column(name, kind) for name, kind in columns.items()]
    return sa.func.unnest(*arrays).table_valued(*names, name="given").render_derived()


def _insert() -> Bulk:
    fixed: dict[str, Any] = {"state": DeliveryState.AVAILABLE.value, "attempt": 0, "claims": 0}
    columns = {"request_id": sa.Text, "channel": sa.Text, "target": sa.Text, "due_at": sa.BigInteger}
    literals: dict[str, Any] = {name: sa.literal_column(repr(value)) for name, value in fixed.items()}
    each = sqlite.insert(deliveries).values(literals | {name: sa.bindparam(name) for name in columns})
    rows = sa.select(*_given(columns).c, *literals.values())
    arrays = postgresql.insert(deliveries).from_select([*columns, *fixed], rows, include_defaults=False)
    return Bulk(each.on_conflict_do_nothing(), arrays.on_conflict_do_nothing())


def _record() -> Bulk:
    keys = {"key": sa.Text, "claim": sa.Integer}
    columns = {"state": sa.Text, "attempt": sa.Integer, "due_at": sa.BigInteger, "last_error": sa.Text}
    columns |= {"delivered_at": sa.BigInteger, "discarded_at": sa.BigInteger}
    bound: dict[str, Any] = {name: sa.bindparam(name, type_=kind) for name, kind in (keys | columns).items()}
    given = _given(keys | columns).c

    def update(values: Any) -> sa.Update:
        claimed = deliveries.c.claims == values["claim"]
        guarded = sa.update(deliveries).where(deliveries.c.request_id == values["key"], claimed)
        return guarded.where(_may(DELIVER, SNOOZE, GIVE_UP)).values({name: values[name] for name in columns})

    return Bulk(update(bound), update(given))


def _claim() -> sa.Executable:
    picked = (
        sa.select(deliveries.c.request_id)
        .where(UNDELIVERED, _may(CLAIMING))
        .order_by(deliveries.c.due_at)
        .limit(sa.bindparam("most"))
        .with_for_update(skip_locked=True)  # SQLite, where one writes at a time, leaves this out
        .cte("picked")
    )
    own = requests.c.id == deliveries.c.request_id
    asked = [sa.select(requests.c[name]).where(own).scalar_subquery() for name in ("callback", "trace")]
    returned = [deliveries.c[name] for name in ("request_id", "channel", "target")]
    return (
        sa.update(deliveries)
        .where(deliveries.c.request_id.in_(sa.select(picked.c.request_id)), _may(CLAIMING))
        .values(state=CLAIMING.target, claims=deliveries.c.claims + 1, due_at=sa.bindparam("until"))
        .returning(*returned, deliveries.c.attempt + 1, deliveries.c.claims, *asked)
    )


def _make_available(transition: Transition[DeliveryState]) -> sa.Executable:
    return sa.update(deliveries).where(UNDELIVERED, _may(transition), _ENDED).values(state=transition.target)


_ENDED = deliveries.c.due_at <= sa.bindparam("now")

INSERT = _insert()
CLAIM = _claim()
RECORD = _record()
STAGE = _make_available(MAKE_AVAILABLE)
RESCUE = _make_available(RESCUING)
DUE = sa.select(sa.func.count(deliveries.c.request_id)).where(
    UNDELIVERED, sa.or_(_may(CLAIMING), sa.and_(_may(MAKE_AVAILABLE, RESCUING), _ENDED))
)
NEXT_DUE = [
    sa.select(sa.func.min(deliveries.c.due_at)).where(UNDELIVERED, deliveries.c.state == state)
    for state in (DeliveryState.AVAILABLE, DeliveryState.DELIVERING, DeliveryState.RETRYABLE)
]
"""One a state: each is one step in an index, where all of them together would read every delivery under way."""
