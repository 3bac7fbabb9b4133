"""What the agents query every second: the ledger grows forever, so no query may read all of it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from tests.fixtures.agents import IN_AN_HOUR, SUBMIT_POLICY

from carpool_worker.database import now, open_engine, read, write
from carpool_worker.pipeline.batching import aggregator, budgeter, canceler, stager
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.budgets import Budget
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.deliveries.rows import Turn


def test_no_query_reads_the_whole_ledger(sqlite_url: str, migrated: Callable[[str], None]) -> None:
    # Given SQLite, that makes its plans without knowing how long the tables are, and says them
    migrated(sqlite_url)
    engine = open_engine(sqlite_url)
    plans = dict[str, list[str]]()

    @sa.event.listens_for(engine, "before_cursor_execute")
    def explain(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if "requests" in statement or "deliveries" in statement:
            asked = connection.connection.driver_connection.execute(
                f"EXPLAIN QUERY PLAN {statement}", parameters
            )
            plans[statement] = [row[3] for row in asked]

    # When they run
    canceler.sweep(engine)
    aggregator.seal_due(engine, IN_AN_HOUR)
    budgeter.release(engine, {"default": Budget(day=Decimal(1))})
    stager.stage(engine, IN_AN_HOUR)
    with write(engine) as connection:
        deliveries.stage(connection, now())
        deliveries.rescue(connection, now())
        deliveries.claim(connection, [Turn("example.com:443", "billing")], 1, now())
    with read(engine) as connection:
        admitted(connection, now(), SUBMIT_POLICY)
        batches.due_to_collect(connection, now())
        deliveries.due(connection, now())
    engine.dispose()

    # Then each step goes by an index
    assert len(plans) >= 7
    steps = {step for plan in plans.values() for step in plan}
    assert steps & {"SCAN requests", "SCAN deliveries"} == set()
