"""What calls in real time ask the tables is found by an index, however many calls there have been."""

from __future__ import annotations

from tests.fixtures.agents import Carpool
from tests.fixtures.calls import Calling, calling, in_progress, pooled
from tests.fixtures.plans import explained

from carpool import Producer
from carpool_worker.pipeline.batching import canceler
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.reports import clients

__all__ = ["calling"]


def test_no_statement_about_calls_reads_a_table_that_grows(
    unhurried: Carpool, calling: Calling, producer: Producer, simulator: RemoteSimulator
) -> None:
    with explained(unhurried.engine) as plans:
        (twice,) = in_progress(unhurried, producer, "Both")
        ids = pooled(unhurried, producer, "One", "Two", "Three", "Four")
        simulator.arm(*(Fault(operation="messages", kind=kind) for kind in ("lost", "dropped")))
        simulator.arm(Fault(operation="messages", kind="error", status=429))
        calling.call_again(twice)
        calling.take_out(*ids)
        calling.claim("gone")
        calling.rescue()
        calling.rescue()
        calling.call()
        with unhurried.engine.connect() as connection:
            clients.waiting(connection)
            clients.waiting_by_state(connection, "tests")
        canceler.request_all(unhurried.engine, "tests", 10**13)
        calling.call()
    unhurried.until_polled("ended")
    with explained(unhurried.engine) as collecting:
        unhurried.collect()
    assert plans.whole | collecting.whole == {}
    assert any("real_time_calls" in statement for statement in plans.seen)
