"""`carpool cancel`: acts at once, and what it says about the bill is true."""

from __future__ import annotations

from functools import partial

import pytest
from tests.fixtures.agents import IN_AN_HOUR, Carpool, request
from tests.fixtures.command_line import run
from tests.fixtures.queries import LEDGER, request_states_by_id

from carpool import Producer
from carpool_worker.policies.limits import Limits

cancel = partial(run, "cancel")
pytestmark = pytest.mark.usefixtures("command_line")


def given_each_kind(carpool: Carpool, producer: Producer) -> list[str]:
    """A request that has ended, one at Anthropic, and one in an open batch."""
    ended = producer.enqueue(request("ended"))
    carpool.until(lambda: carpool.ended(1))
    out = producer.enqueue(request("out"))
    carpool.aggregate()
    carpool.submit()
    carpool.limits = IN_AN_HOUR
    waiting = producer.enqueue(request("waiting"))
    carpool.aggregate()
    return [ended, out, waiting]


def test_it_says_truly_what_became_of_each(carpool: Carpool, producer: Producer) -> None:
    # Given
    ids = given_each_kind(carpool, producer)
    unknown = "0" * 32

    # When
    first = cancel(*ids, unknown, "--yes")
    again = cancel(*ids, "--yes")

    # Then
    assert first.output.splitlines() == [
        "1 canceled before Anthropic ran them: they cost nothing · 1 at Anthropic: their answers will be dropped, "
        "and are paid for if already made · 1 had already ended · 1 unknown: never enqueued, or still in the inbox",
        f"  unknown: {unknown}",
    ]
    assert again.output.splitlines() == [
        "1 at Anthropic: their answers will be dropped, and are paid for if already made · 2 had already ended"
    ]
    assert (first.exit_code, again.exit_code) == (0, 0)
    carpool.until(lambda: carpool.ended(3))
    assert [request_states_by_id(carpool.engine)[id_] for id_ in ids] == ["completed", "canceled", "canceled"]
    assert carpool.rows(f"SELECT sum(requests) FROM {LEDGER}") == [(2,)]


@pytest.mark.parametrize("name", ["id", "claude_id"])
def test_a_batch_is_canceled_by_either_of_its_names(carpool: Carpool, producer: Producer, name: str) -> None:
    ids = given_each_kind(carpool, producer)
    [batch] = carpool.rows("SELECT * FROM batches WHERE state = 'in_progress'")

    run = cancel("--batch", getattr(batch, name), "--yes")

    assert run.output.startswith("1 at Anthropic"), run.output
    carpool.until(lambda: carpool.ended(2))
    assert [request_states_by_id(carpool.engine)[id_] for id_ in ids] == ["completed", "canceled", "batched"]


def test_all_of_a_client_is_canceled_in_the_inbox_too(
    carpool: Carpool, producer: Producer, redis_url: str
) -> None:
    # Given requests of two clients, some not taken yet
    given_each_kind(carpool, producer)
    with Producer(redis_url, client="others") as other:
        theirs = other.enqueue(request("other"))
    late = producer.enqueue(request("late"))

    # When
    run = cancel("--client", "tests", "--yes")
    carpool.aggregate()

    # Then
    assert run.output.startswith("1 canceled before Anthropic ran them"), run.output
    assert "still in the inbox" in run.output
    states = request_states_by_id(carpool.engine)
    assert (states[late], states[theirs]) == ("canceled", "batched")
    carpool.limits = Limits(1, 250_000_000, 0)
    carpool.until(lambda: carpool.ended(5))


def test_without_a_yes_nothing_is_canceled(carpool: Carpool, producer: Producer) -> None:
    ids = given_each_kind(carpool, producer)

    asked = cancel("--client", "tests", answer="n\n")

    assert "Cancel 2 requests of client 'tests', and those still in the inbox?" in asked.output
    assert asked.exit_code == 1
    assert request_states_by_id(carpool.engine)[ids[2]] == "batched"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name either request ids"),
        (["0" * 32, "--client", "tests"], "name either request ids"),
        (["nonsense"], "not a request's id"),
    ],
)
def test_who_uses_it_wrongly_is_told_how(arguments: list[str], reason: str) -> None:
    run = cancel(*arguments, "--yes")

    assert run.exit_code == 2
    assert reason in run.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--batch", "msgbatch_none"], "there is no batch msgbatch_none"),
        (["--client", "no such name"], "client: must be"),
    ],
)
def test_what_it_can_not_do_it_says_in_one_line(carpool: Carpool, arguments: list[str], reason: str) -> None:
    run = cancel(*arguments, "--yes")

    assert run.exit_code == 1
    assert reason in run.stderr
    assert run.stderr.startswith("carpool: ")
    assert len(run.stderr.splitlines()) == 1
