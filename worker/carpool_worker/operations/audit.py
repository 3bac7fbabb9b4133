"""Writes down who did what, around doing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from carpool_worker.database import now, write
from carpool_worker.exceptions import LONGEST_MESSAGE, WorkerError
from carpool_worker.outside_text import cleaned
from carpool_worker.store import audit_log
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Act:
    """What somebody is about to do. `details` are JSON's values, never contents."""

    actor: str
    action: str
    what: str
    details: Mapping[str, Any] = field(default_factory=dict)
    client: str | None = None  # of a tenant


def recorded(engine: sa.Engine, act: Act, do: Callable[[], T]) -> T:
    """Do it and return what it returns; the audit log has it before it begins, and how it ended afterwards.

    What is killed in between stays there as begun. Where the log can't be written, nothing is done.

    Raises:
        WorkerError: whatever `do` raises, of other errors only the type is written.
        sqlalchemy.exc.OperationalError: the database can't be reached.
    """
    with write(engine) as connection:
        what = cleaned(act.what, LONGEST_MESSAGE)
        id_ = audit_log.begin(connection, now(), act.actor, act.action, what, act.details, act.client)
    log.info("act begun", actor=act.actor, action=act.action, entry=id_)
    try:
        done = do()
    except Exception as error:
        _end(
            engine,
            id_,
            cleaned(str(error), LONGEST_MESSAGE) if isinstance(error, WorkerError) else type(error).__name__,
        )
        raise
    _end(engine, id_, None)
    return done


def _end(engine: sa.Engine, id_: str, error: str | None) -> None:
    try:
        with write(engine) as connection:
            audit_log.end(connection, id_, error)
    except sa.exc.SQLAlchemyError as failed:  # it was done, or has failed, all the same
        log.warning("end of act not recorded", entry=id_, error=type(failed).__name__)
