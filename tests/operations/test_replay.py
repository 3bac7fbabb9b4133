"""`carpool deliveries`: dead letters are kept, listed and replayed; stopped endpoints are shown and started."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.command_line import run
from tests.fixtures.deliveries import attempts, deliver, deliveries_by_id, given_deliveries, webhook

from carpool_worker import database
from carpool_worker.models.tables import answers, deliveries, endpoints, requests
from carpool_worker.states import DeliveryState

command = partial(run, "deliveries")
pytestmark = pytest.mark.usefixtures("command_line")
DISCARDED, AVAILABLE, DELIVERED = DeliveryState.DISCARDED, DeliveryState.AVAILABLE, DeliveryState.DELIVERED


def given_dead_letters(engine: sa.Engine, receiver: Any, count: int, path: str = "/down") -> list[str]:
    receiver.answer(path, 503, text="out of order")
    ids = given_deliveries(engine, *[webhook(receiver.url(path))] * count)
    deliver(engine, webhook_schedule=[])
    return ids


def endpoint_rows(engine: sa.Engine) -> list[Any]:
    with database.read(engine) as connection:
        return list(connection.execute(sa.select(endpoints)))


def test_dead_letters_are_listed_with_where_they_should_go_and_why_they_did_not(
    engine: sa.Engine, receiver: Any
) -> None:
    # Given
    dead = given_dead_letters(engine, receiver, 2)

    # When
    run = command("--state", "discarded", "--client", "billing", "--json")
    other = command("--client", "stranger")

    # Then
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert sorted(row["request_id"] for row in rows) == dead
    assert {(row["state"], row["target"], row["last_error"]) for row in rows} == {
        ("discarded", receiver.url("/down"), "answered 503; gave up after 1 try")
    }
    assert other.stdout == "No deliveries found.\n"


def test_the_list_fits_a_terminal_of_80_columns_and_names_each_request(
    engine: sa.Engine, receiver: Any
) -> None:
    # Given
    path = "/down/" + "long" * 30
    dead = given_dead_letters(engine, receiver, 3, path)

    # When
    run = command("--limit", "2")

    # Then: the newest, the last at the end
    assert [line[:32] for line in run.stdout.splitlines() if line.startswith("0" * 20)] == dead[1:]
    # And a URL that is longer has a line of its own, which the terminal wraps: it is copied whole
    lines = run.stdout.splitlines()
    assert [line.strip() for line in lines if len(line) > 80] == [receiver.url(path)] * 2


def test_pages_lead_through_all_of_them_in_the_order_in_which_they_were_given_up_on(
    engine: sa.Engine, receiver: Any
) -> None:
    # Given: two of them at the same moment, and those with the first ids last
    ids = given_dead_letters(engine, receiver, 5)
    with database.write(engine) as connection:
        for at, id_ in zip((9, 8, 8, 7, 6), ids, strict=True):
            found = deliveries.c.request_id == id_
            connection.execute(sa.update(deliveries).where(found).values(discarded_at=at))
    in_order = [ids[4], ids[3], ids[1], ids[2], ids[0]]

    def listed(*arguments: str) -> list[str]:
        run = command("--state", "discarded", "--limit", "2", *arguments, "--json")
        return [json.loads(line)["request_id"] for line in run.stdout.splitlines()]

    # When, Then
    assert listed() == in_order[3:]
    assert listed("--before", in_order[3]) == in_order[1:3]
    assert listed("--before", in_order[1]) == in_order[:1]
    assert listed("--after", in_order[1]) == in_order[2:4]
    assert sorted(listed("--since", "1h", "--limit", "9")) == ids
    assert listed("--since", "2100-01-01") == []


def test_each_try_of_a_delivery_is_shown_with_its_status_and_the_start_of_the_answer(
    engine: sa.Engine, receiver: Any
) -> None:
    # Given
    [id_] = given_dead_letters(engine, receiver, 1)

    # When
    shown, facts = (
        command("show", id_),
        json.loads(command("show", id_, "--json").stdout),
    )

    # Then
    assert "503" in shown.stdout
    assert "out of order" in shown.stdout
    assert [(one["attempt"], one["status"], one["detail"]) for one in facts["tries"]] == [
        (1, 503, "out of order")
    ]
    assert command("show", id_[:31]).stdout == shown.stdout
    assert command("show", "f" * 32).exit_code == 1


def test_a_replayed_dead_letter_is_delivered_and_keeps_all_its_tries(
    engine: sa.Engine, receiver: Any
) -> None:
    # Given
    ids = given_dead_letters(engine, receiver, 3)
    receiver.answer("/down", 204)

    # When
    first, second = (
        command("replay", *ids[:2], "--yes"),
        command("replay", *ids[:2], "--yes"),
    )
    deliver(engine)

    # Then
    assert (first.stdout, second.stdout) == ("2 deliveries replayed.\n", "0 deliveries replayed.\n")
    assert [deliveries_by_id(engine)[id_].state for id_ in ids] == [DELIVERED, DELIVERED, DISCARDED]
    statuses = [(row.status, row.attempt) for row in attempts(engine) if row.request_id == ids[0]]
    assert statuses == [(503, 1), (204, 1)]
    assert len({headers["webhook-id"] for headers, _ in receiver.posts["/down"]}) == 3


def test_a_replayed_delivery_has_its_whole_schedule_again(engine: sa.Engine, receiver: Any) -> None:
    # Given
    [id_] = given_dead_letters(engine, receiver, 1)
    command("replay", "--all", "--yes")

    # When
    deliver(engine, webhook_schedule=[5.0])

    # Then
    assert (deliveries_by_id(engine)[id_].state, deliveries_by_id(engine)[id_].attempt) == (
        DeliveryState.RETRYABLE,
        1,
    )


def test_replay_starts_an_endpoint_that_was_stopped(engine: sa.Engine, receiver: Any) -> None:
    # Given
    url = receiver.url("/gone")
    receiver.answer("/gone", 410)
    [id_] = given_deliveries(engine, webhook(url))
    deliver(engine)
    listing = [json.loads(line) for line in command("endpoints", "--json").stdout.splitlines()]
    receiver.answer("/gone", 200)

    # When
    run = command("replay", "--endpoint", url, "--yes")
    deliver(engine)

    # Then
    assert [(one["url"], one["reason"], one["dead_letters"]) for one in listing] == [(url, "answered 410", 1)]
    assert run.stdout == f"1 delivery replayed.\nStarted again: {url}\n"
    assert deliveries_by_id(engine)[id_].state is DELIVERED
    assert endpoint_rows(engine) == []
    assert command("endpoints").stdout == "No receiver fails.\n"


def test_what_is_no_longer_kept_is_not_replayed_and_that_is_said(engine: sa.Engine, receiver: Any) -> None:
    # Given
    for path in ("/down", "/out"):
        receiver.answer(path, 503)
    pruned, kept = given_deliveries(engine, webhook(receiver.url("/down")), webhook(receiver.url("/out")))
    deliver(engine, webhook_schedule=[])
    with database.write(engine) as connection:
        gone = sa.select(requests.c.answer_id).where(requests.c.id == pruned)
        connection.execute(sa.delete(answers).where(answers.c.id.in_(gone)))

    # When
    run = command("replay", "--client", "billing", "--yes")

    # Then
    assert run.stdout == "1 delivery replayed.\n1 delivery can't be replayed: the answer is no longer kept.\n"
    assert [deliveries_by_id(engine)[id_].state for id_ in (pruned, kept)] == [DISCARDED, AVAILABLE]


def test_replay_takes_many_in_steps(
    engine: sa.Engine, receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr("carpool_worker.operations.replay.STEP", 4)
    given_dead_letters(engine, receiver, 10)

    # When
    run = command("replay", "--since", "1h", "--yes")

    # Then
    assert run.stdout == "10 deliveries replayed.\n"


def test_replay_asks_first_and_wants_to_know_which(engine: sa.Engine, receiver: Any) -> None:
    # Given
    [id_] = given_dead_letters(engine, receiver, 1)

    # When
    which, refused, odd = (
        command("replay"),
        command("replay", "--all", answer="n\n"),
        command("replay", "--since", "soon", "--yes"),
    )

    # Then
    assert (which.exit_code, refused.exit_code, odd.exit_code) == (2, 1, 2)
    assert "Send 1 delivery again?" in refused.stdout
    assert deliveries_by_id(engine)[id_].state is DISCARDED
