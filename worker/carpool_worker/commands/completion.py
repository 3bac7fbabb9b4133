"""What the shell completes: lanes and ids out of the tables. It is quick and silent, whatever is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import sqlalchemy as sa

MOST = 50
"""Ids that are offered, the newest: who looks for an older one types more of it."""

T = TypeVar("T")


def complete_lane(incomplete: str) -> list[str]:
    """Return the lanes that have work or are paused, and begin so."""
    from carpool_worker.store.reports.lanes import active

    return _ask(lambda connection: [view.lane for view in active(connection)], incomplete)


def complete_batch(incomplete: str) -> list[str]:
    """Return the newest batches whose ids begin so."""
    from carpool_worker.store.reports.ids import newest_batches

    return _ask(lambda connection: newest_batches(connection, incomplete, MOST), incomplete)


def complete_request(incomplete: str) -> list[str]:
    """Return requests whose ids begin so; nothing before a digit was typed."""
    from carpool_worker.store.reports.ids import requests_like

    return (
        _ask(lambda connection: requests_like(connection, incomplete, MOST), incomplete) if incomplete else []
    )


def complete_client(incomplete: str) -> list[str]:
    """Return the clients that have had an answer and begin so."""
    from carpool_worker.store.usage import totals

    return _ask(lambda connection: [row.client for row in totals(connection, ["client"])], incomplete)


def _ask(query: Callable[[sa.Connection], list[str]], incomplete: str) -> list[str]:
    from carpool_worker.database import read

    try:
        with read() as connection:
            return [value for value in query(connection) if value.startswith(incomplete)]
    except Exception:  # the shell would print a traceback into what is being typed
        return []
