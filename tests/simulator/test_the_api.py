"""The simulator answers as Anthropic's documents say that the API does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anthropic
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
    order = [int(name[1:]) for name in answers]
    assert sorted(order) == list(range(50))
    assert sum(later == sooner + 1 for sooner, later in pairwise(order)) < 10


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
        claude.beta.files.list()
