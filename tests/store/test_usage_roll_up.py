"""The ledger's entries: collectors append without waiting for each other, and no sum is ever wrong."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa
from tests.fixtures.queries import rows
from tests.fixtures.waiting import until

from carpool_worker.database import open_engine, read, write
from carpool_worker.store import usage
from carpool_worker.store.usage import UsageRow

DAY = "2026-11-30"


def used(client: str = "billing", requests: int = 1, day: str = DAY) -> UsageRow:
    return UsageRow(day, client, "m", requests=requests, input_tokens=10 * requests, cost=7, list_price=14)


def append(engine: sa.Engine, *entries: UsageRow) -> None:
    with write(engine) as connection:
        usage.add(connection, entries)


def roll_up(engine: sa.Engine) -> int:
    with write(engine) as connection:
        return usage.roll_up(connection)


def totals(engine: sa.Engine) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    with read(engine) as connection:
        found = usage.totals(connection, ["client", "day"])
    return {
        (row.client, row.day): (row.requests, row.input_tokens, row.cost, row.list_price) for row in found
    }


def stored(engine: sa.Engine, table: str) -> int:
    return int(rows(engine, f"SELECT count(*) FROM {table}")[0][0])


def test_sums_are_exact_before_during_and_after_a_roll_up(engine: sa.Engine) -> None:
    # Given entries of two clients and days, some of them rolled up before
    append(engine, used(), used("books", 2))
    assert roll_up(engine) == 2
    append(engine, used(requests=3), used(day="2026-12-01"))
    exact = {
        ("billing", DAY): (4, 40, 14, 28),
        ("billing", "2026-12-01"): (1, 10, 7, 14),
        ("books", DAY): (2, 20, 7, 14),
    }
    before = totals(engine)

    # When
    with write(engine) as connection:
        assert usage.roll_up(connection) == 2
        during = totals(engine)

    # Then
    assert before == during == totals(engine) == exact
    assert (stored(engine, "usage"), stored(engine, "usage_entries")) == (3, 0)
    assert roll_up(engine) == 0


def test_what_differs_in_account_key_or_processing_stays_apart(engine: sa.Engine) -> None:
    kinds = [
        ("a", "", "batch"),
        ("", "k", "batch"),
        ("", "", "real_time"),
        ("", "", "batch"),
        ("", "", "batch"),
    ]
    for account, key, how in kinds:
        append(engine, replace(used(), account=account, gateway_key=key, processing=how))

    roll_up(engine)

    found = rows(engine, "SELECT account, gateway_key, processing, requests FROM usage")
    assert sorted(map(tuple, found)) == [
        ("", "", "batch", 2),
        ("", "", "real_time", 1),
        ("", "k", "batch", 1),
        ("a", "", "batch", 1),
    ]


def test_many_entries_are_rolled_up_in_steps_the_oldest_first(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "ROLLED_UP", 2)
    append(engine, *(used(day=f"2026-11-0{day}") for day in (1, 2, 3)))

    assert roll_up(engine) == 2
    assert sorted(row.day for row in rows(engine, "SELECT day FROM usage")) == ["2026-11-01", "2026-11-02"]
    assert (roll_up(engine), roll_up(engine)) == (1, 0)


def test_a_collector_waits_neither_for_another_nor_for_a_roll_up(
    postgres_url: str, migrated: Callable[[str], None]
) -> None:
    # On PostgreSQL: SQLite has one writer at a time, whatever it writes.
    migrated(postgres_url)
    engine = open_engine(f"{postgres_url}%20-clock_timeout%3D5s")
    append(engine, used())
    with engine.connect() as slow, engine.connect() as rolling:
        # Given a collector in the midst of its transaction, and a roll-up too
        usage.add(slow, [used()])
        assert usage.roll_up(rolling) == 1

        # When another collector adds to the same sum
        append(engine, used())

        # Then it did not wait, and no sum is wrong, whoever commits in whichever order
        assert totals(engine)["billing", DAY][0] == 2
        rolling.commit()
        assert totals(engine)["billing", DAY][0] == 2
        slow.commit()
    assert roll_up(engine) == 2
    assert totals(engine) == {("billing", DAY): (3, 30, 21, 42)}
    engine.dispose()


def test_two_roll_ups_at_once_add_each_entry_once(engine: sa.Engine) -> None:
    append(engine, *(used() for _ in range(3)))

    with ThreadPoolExecutor(1) as other:
        with write(engine) as connection:
            first = usage.roll_up(connection)
            second = other.submit(roll_up, engine)
            if engine.dialect.name == "postgresql":
                waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                until(lambda: bool(rows(engine, waiting)))

        assert (first, second.result()) == (3, 0)
    assert totals(engine) == {("billing", DAY): (3, 30, 21, 42)}
