"""Writes the state machines' transitions into the log: a line each, with ids and counts, once they are committed.

The code that moves rows records it on the transaction, and `database.write` publishes what was committed: no line is
about what a rollback undid. Lines quote no client, no answer and no receiver; only the API's own errors.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, NamedTuple

import sqlalchemy as sa

from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

RECORDED = "carpool_transitions"
"""The key of a connection's `info` under which its transaction's lines are kept."""


class LogLine(NamedTuple):
    """A line of the log; equal lines of a transaction become one, with a count if it is about `many` rows."""

    event: str
    many: bool
    level: int
    fields: tuple[tuple[str, Any], ...]


def begin(connection: sa.Connection) -> Counter[LogLine]:
    """Return the lines, none yet, of the transaction that begins."""
    lines = Counter[LogLine]()
    connection.info[RECORDED] = lines
    return lines


def record(connection: sa.Connection, event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Record the transition of one row; fields that are None are left out."""
    _add(connection, LogLine(event, False, level, _known(fields)), 1)


def record_many(
    connection: sa.Connection, event: str, count: int, level: int = logging.INFO, **fields: Any
) -> None:
    """Record that `count` rows made the same transition."""
    if count:
        _add(connection, LogLine(event, True, level, _known(fields)), count)


def publish(lines: Counter[LogLine]) -> None:
    """Write the lines of a transaction that was committed into the log."""
    for line, count in lines.items():
        counted = {"count": count} if line.many else {}
        log.log(line.level, line.event, **counted, **dict(line.fields))


def _add(connection: sa.Connection, line: LogLine, count: int) -> None:
    connection.info.setdefault(RECORDED, Counter())[line] += count


def _known(fields: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for name, value in fields.items() if value is not None)
