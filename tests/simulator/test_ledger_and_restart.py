"""The ledger is right, and nothing is lost when the simulator stops."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic

from carpool_worker.simulator import RemoteSimulator, SimulatorOptions, running
from carpool_worker.simulator.ledger import Ledger, LedgerEntry
from carpool_worker.simulator.runs import RunStopped

Connect = Callable[[RemoteSimulator], Anthropic]
Write = Callable[..., dict[str, Any]]
Read = Callable[[Anthropic, str], Any]

Serve = Callable[[Path, float], Any]


def test_the_ledger_names_requests_that_were_billed_twice(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, ended: Read
) -> None:
    # Given
    first: Any = [request_of("a"), request_of("b"), request_of("bad", max_tokens=0)]
    second: Any = [request_of("b"), request_of("c", model="claude-opus-5"), request_of("bad", max_tokens=0)]
    # When
    for requests in (first, second):
        ended(claude, claude.messages.batches.create(requests=requests).id)
    ledger = simulator.ledger()
    # Then
    assert ledger["ran_twice"] == ["b"]
    assert ledger["ran_twice_count"] == 1
    assert (ledger["batches"], ledger["requests_run"], ledger["billed"]) == (2, 6, 4)
    assert ledger["distinct_custom_ids"] == 4
    assert ledger["outcomes"] == {"succeeded": 4, "errored": 2}
    assert set(ledger["tokens_by_model"]) == {"claude-haiku-4-5", "claude-opus-5"}


def test_the_ledger_has_an_entry_for_each_request_of_each_batch(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, results: Read
) -> None:
    # Given
    requests: Any = [request_of(f"r{number}") for number in range(1_500)]
    batch = claude.messages.batches.create(requests=requests)
    usages = {name: answer.message.usage for name, answer in results(claude, batch.id).items()}
    # When
    entries = simulator.ledger_entries()
    # Then
    assert {entry["custom_id"]: entry["input_tokens"] for entry in entries} == {
        name: usage.input_tokens for name, usage in usages.items()
    }
    assert {entry["batch_id"] for entry in entries} == {batch.id}
    assert simulator.ledger()["tokens_by_model"]["claude-haiku-4-5"]["output_tokens"] == sum(
        usage.output_tokens for usage in usages.values()
    )


def test_a_request_is_billed_although_nobody_fetches_its_answer(
    simulator: RemoteSimulator, claude: Anthropic, request_of: Write, ended: Read
) -> None:
    # Given
    requests: Any = [request_of("r")]
    batch = claude.messages.batches.create(requests=requests)
    ended(claude, batch.id)
    # When
    claude.messages.batches.delete(batch.id)
    # Then
    assert simulator.ledger()["billed"] == 1


def test_batches_and_ledger_outlive_a_restart(
    tmp_path: Path, connect: Connect, request_of: Write, ended: Read, results: Read
) -> None:
    # Given
    requests: Any = [request_of("a"), request_of("b")]
    with running(SimulatorOptions(data=tmp_path)) as before:
        claude = connect(before)
        old = [ended(claude, claude.messages.batches.create(requests=requests).id).id for _ in range(4)]
    # When
    with running(SimulatorOptions(data=tmp_path)) as after:
        claude = connect(after)
        new = claude.messages.batches.create(requests=requests)
        listed = [batch.id for batch in claude.messages.batches.list()]
        answers = results(claude, old[0])
        ended(claude, new.id)
        # Then
        assert listed == [new.id, *reversed(old)]
        assert sorted(answers) == ["a", "b"]
        assert after.ledger()["ran_twice"] == ["a", "b"]


def test_a_killed_simulator_runs_its_batches_once_when_it_is_started_again(
    tmp_path: Path,
    serve: Serve,
    connect: Connect,
    request_of: Write,
    results: Read,
) -> None:
    # Given
    killed = serve(tmp_path, 0.3)
    requests: Any = [request_of(f"r{number}") for number in range(100)]
    batch = connect(killed.simulator).messages.batches.create(requests=requests)
    # When
    killed.stop(signal.SIGKILL)
    restarted = serve(tmp_path, 0.3).simulator
    answers = results(connect(restarted), batch.id)
    ledger = restarted.ledger()
    # Then
    assert len(answers) == ledger["billed"] == 100
    assert ledger["ran_twice"] == []


def test_a_server_stops_on_sigterm_in_the_middle_of_a_run(
    tmp_path: Path, serve: Serve, connect: Connect, request_of: Write, results: Read
) -> None:
    # Given
    server = serve(tmp_path, 0)
    requests: Any = [request_of(f"r{number}", "word " * 500) for number in range(5_000)]
    batch = connect(server.simulator).messages.batches.create(requests=requests)
    # When
    exit_code = server.stop(signal.SIGTERM)
    restarted = serve(tmp_path, 0).simulator
    # Then
    assert exit_code == 0
    assert len(results(connect(restarted), batch.id)) == restarted.ledger()["billed"] == 5_000


def test_a_batch_that_was_interrupted_is_written_down_once(tmp_path: Path) -> None:
    # Given
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    entries = [LedgerEntry("batch", name, "claude-haiku-4-5", "succeeded") for name in ("a", "b")]

    def interrupted() -> Iterator[list[LedgerEntry]]:
        yield entries
        raise RunStopped

    # When
    with pytest.raises(RunStopped):
        ledger.record("batch", interrupted())
    after_interruption = ledger.summary()
    for _ in range(2):
        ledger.record("batch", [entries])
    # Then
    assert after_interruption["billed"] == 0
    assert ledger.summary()["billed"] == 2
    assert ledger.summary()["ran_twice"] == []
