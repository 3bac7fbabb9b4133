"""What an operator sees, as typed values: the same facts that the commands print, without a terminal."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.fixtures.agents import MODEL, Carpool, request

from carpool import Producer, Webhook
from carpool_worker.database import now, read
from carpool_worker.settings import settings
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.states import BatchState, DeliveryState, RequestState
from carpool_worker.views import batches, clients, deliveries, lanes, lookup, requests, usage
from carpool_worker.views.status import facts, status

HOOK = Webhook("https://billing.example.com/claude")


def test_a_batch_is_seen_with_what_it_waits_for_and_once_it_has_ended_with_its_cost(
    carpool: Carpool, producer: Producer
) -> None:
    # Given a sealed batch
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    with read(carpool.engine) as connection:
        [waiting] = batches.page(connection, settings(), batches.BatchFilter(), 10)
    assert (waiting.state, waiting.requests) == (BatchState.SEALED, 2)
    assert waiting.waiting_for == "a worker to post it"

    # When it has ended
    carpool.until(lambda: carpool.ended(2))
    with read(carpool.engine) as connection:
        ended = batches.find(connection, settings(), waiting.id[:20])

    # Then its money is in dollars, its times are milliseconds, and its story is in order of time
    assert (ended.state, ended.succeeded, ended.waiting_for) == (BatchState.COMPLETED, 2, "")
    assert isinstance(ended.cost, Decimal)
    assert ended.list_price == 2 * ended.cost
    assert ended.opened_at <= (ended.finished_at or 0) <= now()
    assert [event.at for event in ended.story] == sorted(event.at for event in ended.story)
    assert ended.request_states == {RequestState.COMPLETED: 2}


def test_the_story_of_a_rejected_batch_ends_with_the_reason(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    # Given a batch that Anthropic will never accept
    simulator.arm(Fault(operation="create", kind="error", status=400))
    producer.enqueue(request("a"))
    carpool.aggregate()

    # When it is posted
    carpool.submit()

    # Then its story and its row give the API's error, and not that its requests were canceled
    with read(carpool.engine) as connection:
        [row] = batches.page(connection, settings(), batches.BatchFilter(), 10)
        story = batches.find(connection, settings(), row.id).story
    assert row.state == BatchState.REJECTED
    assert row.last_error
    assert story[-1].words == f"rejected: {row.last_error}"


def test_filters_choose_batches(carpool: Carpool, producer: Producer) -> None:
    producer.enqueue(request("a"))
    carpool.aggregate()
    chosen = [
        batches.BatchFilter(states=[BatchState.SEALED], model=MODEL, since=now() - 60_000),
        batches.BatchFilter(states=[BatchState.OPEN]),
        batches.BatchFilter(model="another"),
        batches.BatchFilter(since=now() + 60_000),
    ]

    with read(carpool.engine) as connection:
        found = [len(batches.page(connection, settings(), wanted, 10)) for wanted in chosen]

    assert found == [1, 0, 0, 0]


def test_a_request_shows_its_contents_only_if_they_are_asked_for(
    carpool: Carpool, producer: Producer
) -> None:
    id_ = producer.enqueue(request("SECRET"), callback=HOOK, metadata={"invoice": 7})
    carpool.until(lambda: carpool.ended(1))

    with read(carpool.engine) as connection:
        closed = requests.find(connection, settings(), id_)
        opened = requests.find(connection, settings(), id_, contents=True)

    assert closed.contents is None
    assert "SECRET" not in str(closed)
    assert opened.contents is not None
    assert (opened.contents.metadata, opened.contents.params["messages"][0]["content"]) == (
        {"invoice": 7},
        "SECRET",
    )
    assert (closed.state, closed.delivery) == (RequestState.COMPLETED, DeliveryState.AVAILABLE)
    assert closed.callback == HOOK.url


def test_an_id_that_nothing_has_or_that_several_begin_with_is_an_error_of_its_own(
    carpool: Carpool, producer: Producer
) -> None:
    first, second = producer.enqueue(request("a")), producer.enqueue(request("b"))
    carpool.aggregate()

    with read(carpool.engine) as connection:
        with pytest.raises(lookup.UnknownId, match="there is no request ffff"):
            requests.find(connection, settings(), "ffff")
        with pytest.raises(lookup.AmbiguousId, match=f"{first}, {second}"):
            requests.find(connection, settings(), first[:3])
        with pytest.raises(lookup.UnknownId, match="there is no delivery for a request"):
            deliveries.find(connection, first)


def test_a_client_is_seen_with_what_waits_and_what_it_used(carpool: Carpool, producer: Producer) -> None:
    producer.enqueue(request("a"))
    carpool.until(lambda: carpool.ended(1))
    producer.enqueue_many([request("b"), request("c")])
    carpool.aggregate()

    with read(carpool.engine) as connection:
        [one] = clients.active(connection, settings())
        details = clients.find(connection, settings(), "tests")
        [row] = usage.totals(connection, ["model"])
        with pytest.raises(clients.UnknownClient, match="'nobody'"):
            clients.find(connection, settings(), "nobody")

    assert (one.client, one.waiting, one.answered, one.held) == ("tests", 2, 1, 0)
    assert one.cost == one.saved == row.cost == row.saved  # batches cost half
    assert (details.waiting, details.budget) == ({"sealed": 2}, None)
    assert [(model.model, model.answered) for model in details.models] == [(MODEL, 1)]


def test_what_is_unknown_is_none_and_never_zero() -> None:
    unpriced = usage.UsageView(model="claude-unheard-of", requests=2, unpriced=2)
    priced = usage.UsageView(requests=1, cost=Decimal("0.5"), list_price=Decimal("1.5"), saved=Decimal("1.0"))

    assert usage.together([unpriced, unpriced]).cost is None
    assert usage.together([]).cost == 0
    together = usage.together([unpriced, priced])
    assert (together.requests, together.unpriced, together.cost) == (3, 2, Decimal("0.5"))


def test_a_lane_that_carpool_paused_is_seen_with_the_reason(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    producer.enqueue(request("a"))
    carpool.aggregate()
    simulator.arm(Fault(operation="create", kind="error", status=402))
    carpool.submit()

    with read(carpool.engine) as connection:
        [lane] = lanes.active(connection)

    assert (lane.paused, lane.paused_by_operator, lane.sealed_requests) == (True, False, 1)
    assert (lane.reason or "").startswith("402")


def test_the_status_is_data_that_a_program_can_read(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carpool_worker.views.status.answering_workers", lambda _: ["celery@a"])
    producer.enqueue(request("a"))
    carpool.aggregate()
    producer.enqueue(request("b"))

    current = status(carpool.engine, carpool.server, settings())

    assert (current.vitals.inbox, current.vitals.workers, current.queue.requests) == (1, ["celery@a"], 0)
    assert [(one.state, one.requests) for one in current.batches] == [(BatchState.SEALED, 1)]
    read_by_programs = facts(current)
    assert read_by_programs["inbox"]["requests"] == 1
    assert read_by_programs["batches"]["sealed"]["requests"] == 1
