"""The bench's agents are those of the worker: what they take changes, and nobody runs the bench each day."""

from __future__ import annotations

from tests.bench.agents import Stages, servers
from tests.bench.places import DATABASES, engines

COUNT = 200


def test_each_agent_is_measured_beside_the_bare_work() -> None:
    with servers() as beside, DATABASES["sqlite"]() as new, engines(new, 2) as (engine, spare):
        rows = list(Stages(engine, spare, beside).run(COUNT))

    assert [row.stage for row in rows] == ["aggregate", "submit", "collect"]
    assert all(row.bare_seconds and row.count == COUNT for row in rows)
