"""On PostgreSQL nobody waits forever for a lock, nor does a process that stands still keep one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from tests.fixtures.waiting import until

from carpool_worker import database
from carpool_worker.database import lock, write
from carpool_worker.engines import Timeouts, open_engine
from carpool_worker.tasks.task_class import AWAY

LOCK = 4711


def opened(url: str, timeouts: Timeouts) -> Iterator[sa.Engine]:
    engine = open_engine(url, timeouts=timeouts)
    yield engine
    engine.dispose()


@pytest.fixture
def impatient(postgres_url: str) -> Iterator[sa.Engine]:
    yield from opened(postgres_url, Timeouts(lock=0.05, idle=0))


@pytest.fixture
def frozen(postgres_url: str) -> Iterator[sa.Engine]:
    yield from opened(postgres_url, Timeouts(lock=0, idle=0.05))


def test_by_default_both_are_set_and_the_urls_own_options_hold(postgres_url: str) -> None:
    engine = database.open_engine(f"{postgres_url}%20-c%20lock_timeout%3D7s")
    with engine.connect() as connection:
        found = [
            connection.scalar(sa.text(f"SHOW {name}"))
            for name in ("lock_timeout", "idle_in_transaction_session_timeout", "search_path")
        ]
    engine.dispose()
    assert found[:2] == ["7s", "1min"]
    assert found[2].startswith("test_")


def test_an_agent_that_waits_for_a_lock_too_long_gives_up_until_its_next_tick(
    impatient: sa.Engine, postgres_url: str, migrated: Callable[[str], None]
) -> None:
    with write(impatient) as holder:
        lock(holder, LOCK)

        with pytest.raises(AWAY) as raised, write(impatient) as waiting:
            lock(waiting, LOCK)

    assert "lock timeout" in str(raised.value)


def test_the_locks_of_a_process_that_stands_still_are_free_again(
    frozen: sa.Engine, impatient: sa.Engine
) -> None:
    # Given a process that stands still while it holds a lock
    with frozen.connect() as holder:
        lock(holder, LOCK)

        # Then another gets it, and the first can't go on
        until(lambda: _gets_it(impatient))
        with pytest.raises(AWAY):
            holder.execute(sa.text("SELECT 1"))


def _gets_it(engine: sa.Engine) -> bool:
    with write(engine) as connection:
        return bool(connection.scalar(sa.text(f"SELECT pg_try_advisory_xact_lock({LOCK})")))
