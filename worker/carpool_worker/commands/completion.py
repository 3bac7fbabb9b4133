"""What the shell completes: lanes, clients and ids. It is quick and silent, whatever is wrong."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import sqlalchemy as sa

PATIENCE = 2.0
"""Seconds that a database may take: somebody has pressed a key, and can't go on typing."""

MOST = 50
"""Ids that are offered, the newest: whoever looks for an older one types more of it."""


def complete_lane(incomplete: str) -> list[str]:
    """Return the lanes, idle ones too, that begin like this."""
    from carpool_worker.views.lanes import every

    return _ask(lambda connection: [view.lane for view in every(connection)], incomplete)


def complete_batch(incomplete: str) -> list[str]:
    """Return the newest batches whose ids begin like this."""
    from carpool_worker.views.lookup import newest_batches

    return _ask(lambda connection: newest_batches(connection, incomplete, MOST), incomplete)


def complete_request(incomplete: str) -> list[str]:
    """Return requests whose ids begin like this; none until a digit is typed."""
    from carpool_worker.views.lookup import requests_like

    if not incomplete:
        return []
    return _ask(lambda connection: requests_like(connection, incomplete, MOST), incomplete)


def complete_client(incomplete: str) -> list[str]:
    """Return the clients that have had an answer and begin like this."""
    from carpool_worker.views.clients import names

    return _ask(names, incomplete)


def complete_key(incomplete: str) -> list[str]:
    """Return the gateway's keys that begin like this."""
    from carpool_worker.views.keys import names

    return _ask(names, incomplete)


def complete_endpoint(incomplete: str) -> list[str]:
    """Return the receivers that fail or are stopped, and begin like this."""
    from carpool_worker.views.deliveries import failing_endpoints

    return _ask(lambda connection: [one.url for one in failing_endpoints(connection)], incomplete)


def _ask(query: Callable[[sa.Connection], list[str]], incomplete: str) -> list[str]:
    from carpool_worker.commands.adoption import take_over
    from carpool_worker.database import read

    try:
        take_over()
        with _patience(), read() as connection:
            return [value for value in query(connection) if value.startswith(incomplete)]
    except Exception:  # the shell would print a traceback into what is being typed
        return []


@contextmanager
def _patience() -> Iterator[None]:
    """Raise TimeoutError after PATIENCE, whatever is being waited for: a connection or an answer."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _give_up(*_: object) -> NoReturn:
    raise TimeoutError
