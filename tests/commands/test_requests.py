"""`carpool requests`: pages, filters, and the story of one request without a word of what it says."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.fixtures.agents import MODEL, Carpool, request
from tests.fixtures.command_line import fits_80_columns, rows, run, succeeded
from tests.fixtures.segments import insert_request

from carpool import Producer, Webhook
from carpool_worker.app import app as celery
from carpool_worker.database import write
from carpool_worker.pipeline.delivery import courier
from carpool_worker.policies.limits import Limits
from carpool_worker.settings import settings
from carpool_worker.simulator import RemoteSimulator, Script
from carpool_worker.states import RequestState
from carpool_worker.store.reports import requests as report
from carpool_worker.store.requests.intake import NEVER
from carpool_worker.store.requests.rows import UNBATCHED

pytestmark = pytest.mark.usefixtures("command_line")

SONNET = "claude-sonnet-4-5"
HELD = {
    "client": "tests",
    "batch_id": UNBATCHED,
    "state": RequestState.RETRYABLE,
    "attempt": 0,
    "params_bytes": 2,
    "enqueued_at": 1,
    "held_at": 1,
    "retry_at": NEVER,
    "estimate": Decimal(1),
}


def given_batches(carpool: Carpool, producer: Producer, *sizes: int) -> list[str]:
    """Batches of so many requests, with ids from keys, which tell no time; returns the ids in order."""
    for batch, size in enumerate(sizes):
        for number in range(size):
            producer.enqueue(request("SECRET prompt"), idempotency_key=f"{batch} {number}")
        carpool.aggregate()
    return [row.id for row in carpool.rows("SELECT id FROM requests ORDER BY batch_id, id")]


def listed(*arguments: str) -> list[str]:
    return [row["id"] for row in rows("requests", *arguments)]


def test_pages_lead_through_all_of_them_in_the_order_in_which_they_were_batched(
    carpool: Carpool, producer: Producer
) -> None:
    # Given
    ids = given_batches(carpool, producer, 5, 1, 7, 4)

    # When
    back, pages = listed("--limit", "3"), []
    while back:
        pages.append(back)
        back = listed("--limit", "3", "--before", back[0])
    forth, onwards = ids[:1], []
    while forth:
        onwards += forth
        forth = listed("--limit", "4", "--after", forth[-1])

    # Then
    assert [id_ for page in reversed(pages) for id_ in page] == ids
    assert onwards == ids
    assert run("requests", "--before", ids[1], "--after", ids[0]).exit_code == 2


def test_filters_choose(carpool: Carpool, producer: Producer, redis_url: str) -> None:
    # Given requests of two clients and two models; one fails for good, one waits for another try
    with Producer(redis_url, client="search") as other:
        others = other.enqueue(request("c", SONNET))
    first, second = producer.enqueue(request("a")), producer.enqueue(request("b"))
    carpool.aggregate()
    failed = "state = 'discarded', finished_at = 9, outcome = 'errored', error = 'invalid_request_error'"
    carpool.change(f"UPDATE requests SET {failed} WHERE id = id_of('{first}')")
    carpool.change(f"UPDATE requests SET state = 'retryable', retry_at = 9 WHERE id = id_of('{second}')")
    [batch] = [
        row.batch_id for row in carpool.rows(f"SELECT batch_id FROM requests WHERE id = id_of('{others}')")
    ]
    carpool.change(f"UPDATE requests SET enqueued_at = 9 WHERE id = id_of('{first}')")

    # When, Then
    assert (
        listed("--client", "search") == listed("--model", SONNET) == listed("--batch", batch[:20]) == [others]
    )
    assert listed("--state", "discarded") == listed("--error", "invalid_request_error") == [first]
    assert listed("--state", "retryable") == [second]
    assert sorted(listed("--since", "10m")) == sorted([second, others])
    assert listed("--since", "2100-01-01") == []
    assert "invalid_request_error" in succeeded("requests", "--state", "discarded")
    assert listed("--error", "api_error") == listed("--model", "claude-unheard-of") == []
    assert succeeded("requests", "--state", "canceled") == "No requests found.\n"
    assert run("requests", "--state", "odd").exit_code == 2
    assert run("requests", "--since", "soon").exit_code == 2


def test_a_client_with_many_segments_is_found_like_one_with_few(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = given_batches(carpool, producer, 2, 1)
    few = listed("--client", "tests")

    monkeypatch.setattr(report, "FEW_SEGMENTS", 1)

    assert listed("--client", "tests") == few == ids
    assert listed("--client", "nobody") == []


def test_pages_of_a_model_begin_with_what_never_was_in_a_batch(carpool: Carpool, producer: Producer) -> None:
    # Given requests of two models in batches, and others that are held
    given_batches(carpool, producer, 2)
    producer.enqueue_many([request("a", SONNET), request("b", SONNET)])
    carpool.aggregate()
    held = ["1" * 32, "3" * 32]
    with write(carpool.engine) as connection:
        for id_, model in (("1" * 32, SONNET), ("2" * 32, MODEL), ("3" * 32, SONNET)):
            insert_request(connection, HELD | {"id": id_, "model": model})

    # When
    pages = [listed("--model", SONNET, "--limit", "2")]
    while back := listed("--model", SONNET, "--limit", "2", "--before", pages[0][0]):
        pages.insert(0, back)
    onwards = [*held[:1], *listed("--model", SONNET, "--after", held[0])]

    # Then
    assert [len(page) for page in pages] == [2, 2]
    assert [id_ for page in pages for id_ in page] == onwards
    assert onwards[:2] == held
    assert listed("--model", SONNET, "--limit", "1", "--after", held[0]) == [onwards[1]]


def test_tags_find_the_requests_that_have_them(carpool: Carpool, producer: Producer, redis_url: str) -> None:
    # Given a tag that requests of two clients have, and one that none has
    with Producer(redis_url, client="search") as other:
        others = other.enqueue(request("c"), tags=["eu"])
    first = producer.enqueue(request("a"), tags=["invoice-7", "eu"])
    second = producer.enqueue(request("b"), tags=["eu"])
    carpool.aggregate()

    # When, Then
    assert listed("--tag", "invoice-7") == [first]
    assert sorted(listed("--tag", "eu")) == sorted([first, second, others])
    assert sorted(listed("--tag", "eu", "--client", "tests")) == sorted([first, second])
    assert listed("--tag", "invoice-7", "--client", "search") == listed("--tag", "invoice") == []
    assert "tags: eu, invoice-7\n" in succeeded("requests", "show", first)
    assert json.loads(succeeded("requests", "show", others, "--json"))["tags"] == ["eu"]


def test_since_finds_what_came_into_a_batch_long_after_that_was_opened(
    carpool: Carpool, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a batch that is open for up to a week, opened six days ago
    monkeypatch.setenv("CARPOOL_FLUSH_INTERVAL", str(7 * 86_400))
    settings.cache_clear()
    carpool.limits = Limits(count=100, body_bytes=250_000_000, seconds=7 * 86_400)
    id_ = producer.enqueue(request("a"))
    carpool.aggregate()
    old = f"{int(carpool.rows('SELECT opened_at FROM batches')[0][0]) - 6 * 86_400_000:012x}" + "7" + "0" * 19
    for table, column in (("batches", "id"), ("requests", "batch_id")):
        carpool.change(f"UPDATE {table} SET {column} = id_of('{old}')")

    assert listed("--since", "10m") == [id_]


def test_the_table_fits_80_columns(carpool: Carpool, producer: Producer) -> None:
    [id_] = given_batches(carpool, producer, 1)

    shown = succeeded("requests", "--limit", "1")

    assert fits_80_columns(shown)
    assert id_ in shown
    assert f"tests · {MODEL.removeprefix('claude-')}" in shown
    assert f"carpool requests --before {id_}" in shown


def story_of(id_: str) -> list[str]:
    told: dict[str, Any] = json.loads(succeeded("requests", "show", id_, "--json"))
    assert [at for at, _ in told["story"]] == sorted(at for at, _ in told["story"])
    return [words for _, words in told["story"]]


def test_show_tells_all_that_happened_from_the_producer_to_the_callback(
    carpool: Carpool, producer: Producer, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an answer that its receiver took at the second try
    monkeypatch.setenv("CARPOOL_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("CARPOOL_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    settings.cache_clear()
    url = receiver.url("/claude")
    id_ = producer.enqueue(
        request("SECRET prompt"), callback=Webhook(url), metadata={"invoice": "SECRET"}, idempotency_key="7"
    )
    carpool.until(lambda: carpool.ended(1))
    receiver.answer("/claude", 503, text="out of order")
    courier.deliver(carpool.engine, celery, settings())
    receiver.answer("/claude", 204)
    carpool.change("UPDATE deliveries SET state = 'available', due_at = 0 WHERE state = 'retryable'")
    courier.deliver(carpool.engine, celery, settings())

    # When
    said, shown = story_of(id_), succeeded("requests", "show", id_[:12])

    # Then
    steps = [
        "enqueued by tests for claude-haiku-4-5",
        "put into batch",
        "its batch: sealed: 1 request",
        "its batch: post 1 began",
        "its batch: taken by Anthropic as msgbatch_",
        "its batch: ended: 1 succeeded",
        "completed: succeeded · ",
        "delivery, try 1: 503, out of order",
        "delivery, try 2: 204",
        f"delivered to {url}",
    ]
    assert len(said) == len(steps)
    assert [words.startswith(step) for words, step in zip(said, steps, strict=True)] == [True] * len(steps)
    assert "SECRET" not in shown + str(said)
    assert f"callback: {url}\ndelivery: delivered" in shown


def test_contents_are_shown_when_they_are_asked_for(carpool: Carpool, producer: Producer) -> None:
    id_ = producer.enqueue(request("SECRET prompt"), metadata={"invoice": 42})
    carpool.until(lambda: carpool.ended(1))

    shown = succeeded("requests", "show", id_, "--content")
    facts = json.loads(succeeded("requests", "show", id_, "--content", "--json"))

    assert "SECRET prompt" in shown
    assert facts["params"]["messages"][0]["content"] == "SECRET prompt"
    assert facts["answer"]["message"]["role"] == "assistant"
    assert facts["metadata"] == {"invoice": 42}


def test_what_a_request_waits_for_is_said(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator
) -> None:
    simulator.script(Script(contains="poison", outcome="errored", error_type="api_error"))
    id_ = producer.enqueue(request("poison"))
    carpool.aggregate()
    assert "waiting for: a worker to post it" in succeeded("requests", "show", id_)

    carpool.submit()
    carpool.until_polled("ended")
    carpool.collect()
    carpool.change("UPDATE requests SET retry_at = 4102444800000")
    assert "waiting for: another try at 2100-01-01T00:00:00Z" in succeeded("requests", "show", id_)


def test_an_id_may_be_cut_short_while_it_names_one_request(carpool: Carpool, producer: Producer) -> None:
    producer.enqueue_many([request(str(number)) for number in range(40)])
    carpool.aggregate()
    ids = [row.id for row in carpool.rows("SELECT id FROM requests ORDER BY id")]
    shared = ids[0][:3]

    ambiguous, unknown = run("requests", "show", shared), run("requests", "show", "nobody")

    assert (ambiguous.exit_code, unknown.exit_code) == (1, 1)
    assert f"{shared} begins the ids of more than one request: {ids[0]}, {ids[1]}" in ambiguous.output
    assert "there is no request nobody" in unknown.output
    assert succeeded("requests", "show", ids[0][:31]).startswith(ids[0])
