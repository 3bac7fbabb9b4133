"""The moves of the state machines, for the log: a line each, with ids and counts, once they are committed.

Who moves rows notes it on the transaction, and database.write tells the log what was committed: no line speaks of what
a rollback undid. Lines hold nothing that a client, Claude or a receiver said, but for the API's own errors.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

NOTED = "carpool_moves"
"""Under this name a connection's `info` holds what its transaction has moved so far."""


class Line(NamedTuple):
    """A line of the log; lines of a transaction that are alike become one, with a count where there can be many."""

    event: str
    many: bool
    level: int
    fields: tuple[tuple[str, Any], ...]


def begin(connection: sa.Connection) -> Counter[Line]:
    """Return what the moves of the transaction that begins are noted on."""
    noted = Counter[Line]()
    connection.info[NOTED] = noted
    return noted


def note(connection: sa.Connection, event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Note the move of one row; fields that are None are left out."""
    _add(connection, Line(event, False, level, _known(fields)), 1)


def note_many(connection: sa.Connection, event: str, count: int, **fields: Any) -> None:
    """Note that `count` rows moved alike."""
    if count:
        _add(connection, Line(event, True, logging.INFO, _known(fields)), count)


def tell(noted: Counter[Line]) -> None:
    """Put what was committed into the log."""
    for line, count in noted.items():
        counted = {"count": count} if line.many else {}
        log.log(line.level, line.event, **counted, **dict(line.fields))


def _add(connection: sa.Connection, line: Line, count: int) -> None:
    connection.info.setdefault(NOTED, Counter())[line] += count


def _known(fields: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for name, value in fields.items() if value is not None)
