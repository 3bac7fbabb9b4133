"""Armed faults strike the calls that they name, as often as they say, and no others."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from carpool_worker.simulator import SPEND_LIMIT_REACHED, Fault, RemoteSimulator, Script

BATCHES = "/v1/messages/batches"
Write = Callable[..., dict[str, Any]]
Read = Callable[[Anthropic, str], Any]


@pytest.mark.parametrize(("kind", "batches_made"), [("lost", 1), ("dropped", 0)])
def test_a_create_can_lose_its_connection_after_the_batch_was_made_or_before(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, kind: Any, batches_made: int
) -> None:
    # Given
    simulator.arm(Fault(operation="create", kind=kind))
    requests: Any = [request_of("r")]
    # When
    with pytest.raises(anthropic.APIConnectionError):
        claude.messages.batches.create(requests=requests)
    # Then
    assert len(claude.messages.batches.list().data) == batches_made


@pytest.mark.parametrize(("kind", "batches_made"), [("error", 0), ("error_after", 1)])
@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (413, "request_too_large"),
        (500, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_create_can_be_answered_with_any_error(
    simulator: RemoteSimulator,
    http: httpx2.Client,
    request_of: Write,
    kind: Any,
    batches_made: int,
    status: int,
    error_type: str,
) -> None:
    # Given
    simulator.arm(Fault(operation="create", kind=kind, status=status))
    # When
    answer = http.post(BATCHES, json={"requests": [request_of("r", "long " * 100_000)]})
    # Then
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, error_type)
    assert len(http.get(BATCHES).json()["data"]) == batches_made


def test_a_429_says_when_to_come_back_or_that_it_is_a_spend_cap_or_nothing(
    simulator: RemoteSimulator, http: httpx2.Client
) -> None:
    # Given
    date = "Fri, 15 Jan 2027 08:01:00 GMT"
    simulator.arm(
        Fault(operation="list", kind="error", status=429, retry_after=7),
        Fault(operation="list", kind="error", status=429, headers={"retry-after": date}),
        Fault(operation="list", kind="error", status=429, error_code=SPEND_LIMIT_REACHED),
        Fault(operation="list", kind="error", status=429),
    )
    # When
    limited, dated, capped, silent, passed = (http.get(BATCHES) for _ in range(5))
    # Then
    assert {answer.status_code for answer in (limited, dated, capped, silent)} == {429}
    assert [answer.headers.get("retry-after") for answer in (limited, dated, capped, silent)] == [
        "7",
        date,
        None,
        None,
    ]
    assert capped.json()["error"]["details"]["error_code"] == "enforced_spend_limit_reached"
    assert "details" not in silent.json()["error"]
    assert passed.status_code == 200


def test_a_fault_skips_and_counts_the_calls_it_names(simulator: RemoteSimulator, http: httpx2.Client) -> None:
    # Given
    simulator.arm(Fault(operation="retrieve", kind="error", status=404, skip=1, times=2))
    # When
    unrelated = http.get(BATCHES).status_code
    answers = [http.get(f"{BATCHES}/x").json()["request_id"] for _ in range(2)]
    # Then
    assert unrelated == 200
    assert len(set(answers)) == 2
    assert [(fault.skip, fault.times) for fault in simulator.waiting_faults()] == [(0, 1)]
    # When
    simulator.disarm()
    # Then
    assert simulator.waiting_faults() == []


@pytest.mark.parametrize("operation", ["retrieve", "results"])
def test_a_404_can_pass(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, ended: Read, operation: Any
) -> None:
    # Given
    requests: Any = [request_of("r")]
    batch = ended(claude, claude.messages.batches.create(requests=requests).id)
    simulator.arm(Fault(operation=operation, kind="error", status=404))
    # When
    with pytest.raises(anthropic.NotFoundError):
        list(claude.messages.batches.results(batch.id))
    # Then
    assert len(list(claude.messages.batches.results(batch.id))) == 1


def test_results_can_break_off_in_the_middle_of_a_line(
    simulator: RemoteSimulator, http: httpx2.Client, claude: Anthropic, request_of: Write, ended: Read
) -> None:
    # Given
    requests: Any = [request_of(f"r{number}") for number in range(100)]
    batch = ended(claude, claude.messages.batches.create(requests=requests).id)
    simulator.arm(Fault(operation="results", kind="truncated"))
    received: list[bytes] = []

    def receive() -> None:
        with http.stream("GET", f"{BATCHES}/{batch.id}/results") as response:
            received.extend(response.iter_bytes())

    # When
    with pytest.raises(httpx2.RemoteProtocolError):
        receive()
    # Then
    text = b"".join(received)
    assert 10 < text.count(b"\n") < 90
    assert not text.endswith(b"\n")
    assert len(list(claude.messages.batches.results(batch.id))) == 100


def test_the_answer_to_a_create_can_be_cut_short(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write
) -> None:
    # Given
    simulator.arm(Fault(operation="create", kind="truncated"))
    requests: Any = [request_of("r")]
    # When
    with pytest.raises(anthropic.APIConnectionError):
        claude.messages.batches.create(requests=requests)
    # Then
    assert len(claude.messages.batches.list().data) == 1


def test_an_archived_batch_is_shown_without_its_results(
    simulator: RemoteSimulator, http: httpx2.Client, claude: Anthropic, request_of: Write, ended: Read
) -> None:
    # Given
    requests: Any = [request_of("r")]
    batch = ended(claude, claude.messages.batches.create(requests=requests).id)
    # When
    simulator.archive(batch.id)
    # Then
    archived = claude.messages.batches.retrieve(batch.id)
    assert (archived.processing_status, archived.results_url) == ("ended", None)
    assert archived.archived_at
    assert http.get(f"{BATCHES}/{batch.id}/results").status_code == 404


def test_results_can_come_slowly_and_are_whole(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, ended: Read
) -> None:
    # Given
    requests: Any = [request_of(f"r{number}") for number in range(10)]
    batch = ended(claude, claude.messages.batches.create(requests=requests).id)
    simulator.arm(Fault(operation="results", kind="slow", seconds=0.4))
    began = time.monotonic()
    # When
    lines = list(claude.messages.batches.results(batch.id))
    # Then
    assert time.monotonic() - began >= 0.4
    assert len(lines) == 10


def test_a_create_can_be_answered_later_than_the_client_waits(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write
) -> None:
    # Given
    simulator.arm(Fault(operation="create", kind="stalled", seconds=1))
    requests: Any = [request_of("r")]
    # When
    with pytest.raises(anthropic.APITimeoutError):
        claude.with_options(timeout=0.2).messages.batches.create(requests=requests)
    # Then
    assert len(claude.messages.batches.list().data) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", '{"operation": "create", "kind": "unheard of"}'),
        ("faults", '{"operation": "list", "kind": "truncated"}'),
        ("faults", '{"operation": "create", "kind": "slow"}'),
        ("scripts", '{"outcome": "errored", "shard": 1}'),
        ("scripts", "nonsense"),
    ],
)
def test_the_control_api_refuses_what_it_does_not_know(http: httpx2.Client, path: str, body: str) -> None:
    # When
    answer = http.post(f"/simulator/{path}", content=body)
    # Then
    assert answer.status_code == 400


def test_faults_and_scripts_can_be_set_at_the_start(
    start: Callable[..., RemoteSimulator],
    connect: Callable[[RemoteSimulator], Anthropic],
    request_of: Write,
    results: Read,
) -> None:
    # Given
    faults = [Fault(operation="create", kind="error", status=529)]
    claude = connect(start(faults=faults, scripts=[Script(text="scripted")]))
    requests: Any = [request_of("r")]
    # When
    with pytest.raises(anthropic.InternalServerError, match="Overloaded"):
        claude.messages.batches.create(requests=requests)
    answers = results(claude, claude.messages.batches.create(requests=requests).id)
    # Then
    assert answers["r"].message.content[0].text == "scripted"
