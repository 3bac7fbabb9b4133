"""What a create takes and what it refuses, with the API's own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types.messages import MessageBatch

from carpool_worker.simulator import RemoteSimulator

BATCHES = "/v1/messages/batches"
Write = Callable[..., dict[str, Any]]
Read = Callable[[Anthropic, str], Any]
PARAMS: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": []}


def item(**fields: Any) -> dict[str, Any]:
    return {"custom_id": "a", "params": PARAMS} | fields


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "requests: Field required"),
        ({"requests": []}, "requests: List should have at least 1 item after validation, not 0"),
        ({"requests": {}}, "requests: Input should be a valid list"),
        ({"requests": [item()], "x": 1}, "x: Extra inputs are not permitted"),
        ({"requests": [{"params": PARAMS}]}, "requests.0.custom_id: Field required"),
        ({"requests": [item(), {"custom_id": "b"}]}, "requests.1.params: Field required"),
        (
            {"requests": [item(), item(custom_id="b", params=[])]},
            "requests.1.params: Input should be a valid dictionary",
        ),
        ({"requests": [item(x=1)]}, "requests.0.x: Extra inputs are not permitted"),
        ({"requests": [item(custom_id=7)]}, "requests.0.custom_id: Input should be a valid string"),
        (
            {"requests": [item(custom_id="x" * 65)]},
            "requests.0.custom_id: String should have at most 64 characters",
        ),
        (
            {"requests": [item(), item(custom_id="no space")]},
            "requests.1.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        ),
        (
            {"requests": [item(custom_id="a\n")]},
            "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        ),
        (
            {"requests": [item(), item(custom_id="b"), item()]},
            "requests: custom_id's must be unique within a batch. Duplicate custom_id found: a",
        ),
    ],
)
def test_bad_bodies_are_refused_in_the_apis_words(
    http: httpx2.Client, body: dict[str, Any], message: str, separators: tuple[str, str]
) -> None:
    # When
    answer = http.post(BATCHES, content=json.dumps(body, separators=separators))
    # Then
    assert answer.status_code == 400
    assert answer.json()["error"] == {"type": "invalid_request_error", "message": message}
    assert http.get(BATCHES).json()["data"] == []


@pytest.mark.parametrize("body", ["", "{", '{"requests":[{"custom_id":"a","params":{}}', "nonsense"])
def test_what_is_not_json_is_refused(http: httpx2.Client, body: str) -> None:
    # When
    answer = http.post(BATCHES, content=body)
    # Then
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("The request body is not valid JSON: ")


def test_more_than_100_000_requests_are_refused(http: httpx2.Client) -> None:
    # Given
    requests = [{"custom_id": str(number), "params": {}} for number in range(100_001)]
    # When
    answer = http.post(BATCHES, content=json.dumps({"requests": requests}, separators=(",", ":")))
    # Then
    assert answer.status_code == 400
    assert "at most 100000 items after validation, not 100001" in answer.json()["error"]["message"]


def test_more_than_256_mb_are_refused(http: httpx2.Client) -> None:
    # When
    answer = http.post(BATCHES, content=(b" " * 1_000_000 for _ in range(257)))
    # Then
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "request_too_large"


@pytest.mark.parametrize(
    "write",
    [
        lambda requests: json.dumps({"requests": requests}, separators=(",", ":")),
        lambda requests: json.dumps({"requests": requests}, indent=2),
        lambda requests: json.dumps(
            {"requests": [dict(reversed(r.items())) for r in requests]}, separators=(",", ":")
        ),
        lambda requests: json.dumps({"requests": requests}, separators=(",", ":")).replace(
            "custom_id", "custom\\u005fid"
        ),
        lambda requests: json.dumps({"requests": requests}, separators=(",", ":")).replace("r1", "\\u00721"),
    ],
    ids=["compact", "indented", "reversed", "escaped name", "escaped custom_id"],
)
def test_bodies_may_be_written_in_any_way(
    http: httpx2.Client, claude: Anthropic, request_of: Write, results: Read, write: Callable[[Any], str]
) -> None:
    # Given
    tricky = 'a ,{"custom_id":"x"} “ü” ]}'
    nested = {"input_schema": {"enum": [1, {"custom_id": "x", "params": {}}, {"custom_id": "y"}]}}
    requests = [request_of(f"r{n}", f"{n} {tricky}", tools=[nested]) for n in range(100)]
    # When
    batch = http.post(BATCHES, content=write(requests)).json()
    answers = results(claude, batch["id"])
    # Then
    assert batch["request_counts"]["processing"] == 100
    assert {name: answer.message.content[0].text for name, answer in answers.items()} == {
        f"r{n}": f"[simulated] An answer to: {n} {tricky}" for n in range(100)
    }


def test_a_large_batch_does_not_swell_the_simulator(
    tmp_path: Path,
    serve: Callable[[Path, float], Any],
    connect: Callable[[RemoteSimulator], Anthropic],
    request_of: Write,
    ended: Read,
) -> None:
    # Given
    server = serve(tmp_path, 0)
    claude = connect(server.simulator)
    requests = [request_of(f"r{number}", "word " * 450) for number in range(20_000)]
    body = json.dumps({"requests": requests}, separators=(",", ":")).encode()
    before = server.peak_memory()
    # When
    batch = claude.post(BATCHES, content=body, cast_to=MessageBatch)
    over = ended(claude, batch.id)
    with claude.messages.batches.with_streaming_response.results(batch.id) as response:
        lines = sum(1 for _ in response.iter_lines())
    # Then
    assert over.request_counts.succeeded == lines == 20_000
    assert len(body) > 45_000_000
    assert server.peak_memory() - before < 45_000_000


def test_other_calls_are_answered_while_a_batch_arrives_and_runs(
    simulator: RemoteSimulator, http: httpx2.Client, claude: Anthropic, request_of: Write, ended: Read
) -> None:
    # Given
    requests = [request_of(f"r{number}") for number in range(5_000)]
    body = json.dumps({"requests": requests}, separators=(",", ":")).encode()
    middle = len(body) // 2
    listed: list[int] = []

    def body_with_a_pause() -> Iterator[bytes]:
        yield body[:middle]
        listed.append(len(claude.messages.batches.list().data))
        yield body[middle:]

    # When
    batch = http.post(BATCHES, content=body_with_a_pause()).json()
    early = http.get(f"{BATCHES}/{batch['id']}").json()
    # Then
    assert listed == [0]
    assert early["id"] == batch["id"]
    assert ended(claude, batch["id"]).request_counts.succeeded == 5_000
    assert simulator.ledger()["billed"] == 5_000


def test_a_create_that_breaks_off_leaves_no_batch(simulator: RemoteSimulator, http: httpx2.Client) -> None:
    # Given
    def broken_body() -> Any:
        yield b'{"requests":[{"custom_id":"a",'
        raise KeyboardInterrupt

    # When
    with pytest.raises(KeyboardInterrupt):
        http.post(BATCHES, content=broken_body())
    # Then
    assert http.get(BATCHES).json()["data"] == []
