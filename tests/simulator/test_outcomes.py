"""What becomes of requests: validation when the batch runs, scripts, cancellation, expiry, tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from anthropic import Anthropic

from carpool_worker.simulator import RemoteSimulator, Script

Start = Callable[..., RemoteSimulator]
Connect = Callable[[RemoteSimulator], Anthropic]
Write = Callable[..., dict[str, Any]]
Read = Callable[[Anthropic, str], Any]


@pytest.mark.parametrize(
    ("params", "error_type", "message"),
    [
        (
            {"stream": True},
            "invalid_request_error",
            '"stream=True" is not supported in the Message Batches API',
        ),
        ({"max_tokens": 0}, "invalid_request_error", "max_tokens: must be greater than or equal to 1"),
        ({"messages": ...}, "invalid_request_error", "messages: Field required"),
        ({"model": ...}, "invalid_request_error", "model: Field required"),
        (
            {"max_tokens": 9_999_999},
            "invalid_request_error",
            "max_tokens: 9999999 > 64000, which is the maximum allowed number of output tokens for claude-haiku-4-5",
        ),
        ({"model": "claude-nobody-1"}, "not_found_error", "model: claude-nobody-1"),
        ({"max_tokens": "many"}, "invalid_request_error", "max_tokens: Expected `int | null`, got `str`"),
        (
            {"speed": "fast"},
            "invalid_request_error",
            '"speed=fast" is not supported in the Message Batches API',
        ),
    ],
)
def test_bad_params_are_errored_when_the_batch_runs(
    claude: Anthropic,
    simulator: RemoteSimulator,
    request_of: Write,
    results: Read,
    params: dict[str, Any],
    error_type: str,
    message: str,
) -> None:
    # Given
    requests: Any = [request_of("bad", **params), request_of("good")]
    # When
    answers = results(claude, claude.messages.batches.create(requests=requests).id)
    # Then
    assert answers["good"].type == "succeeded"
    error = answers["bad"].error
    assert (error.error.type, error.error.message) == (error_type, message)
    assert error.request_id.startswith("req_")
    assert simulator.ledger()["billed"] == 1


def test_a_beta_header_raises_the_limit_of_output_tokens(
    claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    requests: Any = [request_of("r", max_tokens=300_000)]
    # When
    batch = claude.beta.messages.batches.create(requests=requests, betas=["output-300k-2026-03-24"])
    # Then
    assert results(claude, batch.id)["r"].type == "succeeded"


def test_scripts_decide_by_custom_id_model_and_text(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    simulator.script(
        Script(custom_id="a", outcome="errored", error_type="overloaded_error", message="Overloaded"),
        Script(model="claude-opus-5", outcome="expired"),
        Script(contains="secret", outcome="refused"),
        Script(contains="price", text="42"),
    )
    requests: Any = [
        request_of("a"),
        request_of("b", model="claude-opus-5"),
        request_of("c", "tell me a secret"),
        request_of("d", "the price?"),
        request_of("e"),
    ]
    # When
    answers = results(claude, claude.messages.batches.create(requests=requests).id)
    # Then
    assert answers["a"].error.error.type == "overloaded_error"
    assert answers["b"].type == "expired"
    assert answers["c"].message.stop_reason == "refusal"
    assert answers["d"].message.content[0].text == "42"
    assert answers["e"].message.stop_reason == "end_turn"
    assert simulator.ledger()["outcomes"] == {"succeeded": 3, "errored": 1, "expired": 1}


def test_a_script_can_apply_to_the_first_runs_of_each_request_only(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    simulator.script(Script(outcome="errored", times=1))
    requests: Any = [request_of("a"), request_of("b")]
    # When
    first, second = (results(claude, claude.messages.batches.create(requests=requests).id) for _ in range(2))
    # Then
    assert [first[name].type for name in "ab"] == ["errored", "errored"]
    assert [second[name].type for name in "ab"] == ["succeeded", "succeeded"]
    assert simulator.ledger()["ran_twice"] == []


def test_a_script_can_pick_a_share_of_the_requests(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    simulator.script(Script(outcome="expired", share=0.2))
    requests: Any = [request_of(f"r{number}") for number in range(500)]
    # When
    answers = results(claude, claude.messages.batches.create(requests=requests).id)
    # Then
    assert 60 < sum(answer.type == "expired" for answer in answers.values()) < 140


def test_a_canceled_batch_keeps_what_had_finished(
    start: Start, connect: Connect, request_of: Write, ended: Read, results: Read
) -> None:
    # Given
    simulator = start(latency=(0.5, 0.5), cancel_latency=0)
    claude = connect(simulator)
    requests: Any = [request_of(f"r{number}") for number in range(1_000)]
    batch = claude.messages.batches.create(requests=requests)
    # When
    canceled = claude.messages.batches.cancel(batch.id)
    over = ended(claude, batch.id)
    # Then
    assert canceled.processing_status == "canceling"
    assert canceled.cancel_initiated_at is not None
    assert over.request_counts.succeeded + over.request_counts.canceled == 1_000
    assert over.request_counts.canceled > 0
    assert simulator.ledger()["billed"] == over.request_counts.succeeded
    assert {answer.type for answer in results(claude, batch.id).values()} <= {"succeeded", "canceled"}


def test_what_has_not_run_when_a_batch_expires_is_expired(
    start: Start, connect: Connect, request_of: Write, ended: Read
) -> None:
    # Given
    simulator = start(latency=0.4, expiry_after=0.1)
    claude = connect(simulator)
    requests: Any = [request_of(f"r{number}") for number in range(100)]
    # When
    over = ended(claude, claude.messages.batches.create(requests=requests).id)
    # Then
    assert (over.request_counts.succeeded, over.request_counts.expired) == (25, 75)
    assert simulator.ledger()["outcomes"] == {"succeeded": 25, "expired": 75}
