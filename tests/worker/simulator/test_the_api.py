"""The simulator answers as Anthropic's documents say that the API does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from carpool_worker.simulator import RemoteSimulator

BATCHES = "/v1/messages/batches"
Write = Callable[..., dict[str, Any]]
Read = Callable[[Anthropic, str], Any]


def test_the_sdk_gets_every_answer_of_a_batch(claude: Anthropic, request_of: Write, results: Read) -> None:
    # Given
    requests: Any = [request_of(f"r{number}", f"Question {number}") for number in range(30)]
    # When
    batch = claude.messages.batches.create(requests=requests)
    answers = results(claude, batch.id)
    # Then
    assert batch.id.startswith("msgbatch_01")
    assert batch.request_counts.processing == 30
    assert (batch.expires_at - batch.created_at).total_seconds() == 24 * 60 * 60
    assert {name: answer.message.content[0].text for name, answer in answers.items()} == {
        f"r{number}": f"[simulated] An answer to: Question {number}" for number in range(30)
    }
    assert answers["r7"].message.usage.service_tier == "batch"
    assert len({answer.message.id for answer in answers.values()}) == 30


def test_results_come_in_another_order_than_the_requests(
    claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    requests: Any = [request_of(f"r{number}") for number in range(50)]
    # When
    answers = results(claude, claude.messages.batches.create(requests=requests).id)
    # Then
    assert list(answers) != [request["custom_id"] for request in requests]
    assert sorted(answers) == sorted(request["custom_id"] for request in requests)


def test_an_ended_batch_names_its_results_absolutely(
    claude: Anthropic, request_of: Write, ended: Read
) -> None:
    # Given
    requests: Any = [request_of("r")]
    batch = claude.messages.batches.create(requests=requests)
    # When
    over = ended(claude, batch.id)
    # Then
    assert batch.results_url is None
    assert over.results_url == f"{str(claude.base_url).rstrip('/')}{BATCHES}/{batch.id}/results"
    assert over.ended_at is not None
    assert (over.request_counts.processing, over.request_counts.succeeded) == (0, 1)


def test_the_list_is_newest_first_and_has_both_cursors(claude: Anthropic, request_of: Write) -> None:
    # Given
    requests: Any = [request_of("r")]
    ids = [claude.messages.batches.create(requests=requests).id for _ in range(5)]
    newest_first = list(reversed(ids))
    # When
    first = claude.messages.batches.list(limit=2)
    older = claude.messages.batches.list(limit=2, after_id=ids[3])
    newer = claude.messages.batches.list(limit=2, before_id=ids[1])
    newest = claude.messages.batches.list(limit=2, before_id=ids[3])
    # Then
    assert [batch.id for batch in first.data] == newest_first[:2]
    assert (first.has_more, first.first_id, first.last_id) == (True, ids[4], ids[3])
    assert [batch.id for batch in older.data] == newest_first[2:4]
    assert [batch.id for batch in newer.data] == [ids[3], ids[2]]
    assert newer.has_more is True
    assert [batch.id for batch in newest.data] == [ids[4]]
    assert newest.has_more is False
    assert [batch.id for batch in claude.messages.batches.list(limit=2)] == newest_first
    assert [batch.id for batch in claude.messages.batches.list(limit=1, before_id=ids[0])] == ids[1:]


def test_an_empty_list_has_no_cursors(http: httpx2.Client) -> None:
    # When
    page = http.get(BATCHES).json()
    # Then
    assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after_id=a&before_id=b"])
def test_the_list_refuses_bad_queries(http: httpx2.Client, query: str) -> None:
    # When
    answer = http.get(f"{BATCHES}?{query}")
    # Then
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_unknown_batches_are_not_found(claude: Anthropic) -> None:
    for call in (
        claude.messages.batches.retrieve,
        claude.messages.batches.cancel,
        claude.messages.batches.delete,
    ):
        with pytest.raises(anthropic.NotFoundError, match=r"Message Batch ID not found\."):
            call("msgbatch_01unknown")


def test_ended_batches_can_be_deleted_and_are_gone(claude: Anthropic, request_of: Write, ended: Read) -> None:
    # Given
    requests: Any = [request_of("r")]
    batch = ended(claude, claude.messages.batches.create(requests=requests).id)
    # When
    deleted = claude.messages.batches.delete(batch.id)
    # Then
    assert (deleted.id, deleted.type) == (batch.id, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.batches.retrieve(batch.id)


def test_batches_in_progress_have_no_results_and_cannot_be_deleted(
    start: Callable[..., RemoteSimulator], connect: Callable[[RemoteSimulator], Anthropic], request_of: Write
) -> None:
    # Given
    claude = connect(start(latency=60))
    requests: Any = [request_of("r")]
    batch = claude.messages.batches.create(requests=requests)
    # When
    with pytest.raises(anthropic.BadRequestError, match="Consider canceling the batch instead"):
        claude.messages.batches.delete(batch.id)
    with pytest.raises(anthropic.NotFoundError, match="has no available results") as refusal:
        claude.get(f"{BATCHES}/{batch.id}/results", cast_to=object)
    in_progress = claude.messages.batches.with_raw_response.retrieve(batch.id)
    # Then
    assert refusal.value.response.headers["x-should-retry"] == "false"
    assert in_progress.headers["retry-after"] == "10"
    assert in_progress.headers["request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer sk", "anthropic-version": "2026-10-21"}, 200),
        ({"x-api-key": "sk", "anthropic-version": "2023-06-01"}, 200),
        ({"anthropic-version": "2023-06-01"}, 401),
        ({"authorization": "Basic c2s=", "anthropic-version": "2026-10-21"}, 401),
        ({"x-api-key": "sk"}, 400),
        ({"x-api-key": "sk", "anthropic-version": "2020-01-01"}, 400),
    ],
)
def test_both_kinds_of_authentication_are_taken_and_nothing_else(
    simulator: RemoteSimulator, headers: dict[str, str], status: int
) -> None:
    # When
    answer = httpx2.get(simulator.url + BATCHES, headers=headers)
    # Then
    assert answer.status_code == status
    if status == 401:
        body = answer.json()
        assert body["error"]["type"] == "authentication_error"
        assert body["request_id"] == answer.headers["request-id"]


def test_every_answer_tells_the_rate_limit(http: httpx2.Client) -> None:
    # When
    first, second = http.get(BATCHES), http.get(f"{BATCHES}/unknown")
    # Then
    assert first.headers["anthropic-ratelimit-requests-limit"] == "1000"
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "999"
    assert second.headers["anthropic-ratelimit-requests-remaining"] == "998"
    assert second.headers["anthropic-ratelimit-requests-reset"].endswith("Z")


def test_more_calls_a_minute_than_allowed_are_refused(
    start: Callable[..., RemoteSimulator], connect: Callable[[RemoteSimulator], Anthropic]
) -> None:
    # Given
    claude = connect(start(requests_per_minute=2))
    for _ in range(2):
        claude.messages.batches.list()
    # When
    with pytest.raises(anthropic.RateLimitError) as refusal:
        claude.messages.batches.list()
    # Then
    assert refusal.value.response.headers["retry-after"] == "1"


def test_a_full_queue_refuses_batches_until_some_have_ended(
    start: Callable[..., RemoteSimulator],
    connect: Callable[[RemoteSimulator], Anthropic],
    request_of: Write,
    ended: Read,
) -> None:
    # Given
    claude = connect(start(queue_limit=5, latency=60, cancel_latency=0))
    requests: Any = [request_of(f"r{number}") for number in range(3)]
    batch = claude.messages.batches.create(requests=requests)
    # When
    with pytest.raises(anthropic.RateLimitError) as refusal:
        claude.messages.batches.create(requests=requests)
    # Then
    assert 55 <= int(refusal.value.response.headers["retry-after"]) <= 60
    assert len(claude.messages.batches.list().data) == 1
    # When
    claude.messages.batches.cancel(batch.id)
    ended(claude, batch.id)
    # Then
    assert claude.messages.batches.create(requests=requests).processing_status == "in_progress"


def test_no_other_path_of_the_api_is_simulated(claude: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(
            model="claude-haiku-4-5", max_tokens=1, messages=[{"role": "user", "content": "Hi"}]
        )
