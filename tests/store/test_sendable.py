"""What couriers send is, byte for byte, the answer as it is everywhere else. On both databases."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from tests.fixtures.deliveries import claim_all, completed_request, insert_owed
from tests.fixtures.segments import insert_requests

from carpool.contract import to_json
from carpool_worker import database
from carpool_worker.models import tables
from carpool_worker.store.deliveries.outcomes import Claimed
from carpool_worker.store.requests import sendable
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.store.requests.sendable import Sendable, answer_json

NOW = 1_800_000_000_123
CALLBACK = '{"kind":"webhook","url":"https://billing.example.com/claude"}'
ERROR = (
    b'{"type":"errored","error":{"type":"error","error":{"type":"overloaded_error","message":"\xc3\xa9"}}}'
)
ENDS: dict[str, tuple[dict[str, Any], bytes]] = {
    "a": ({}, b'{"type":"succeeded","message":{"content":[{"text":"h\xc3\xa9 \\"there\\""}]}}'),
    "b": ({"input_tokens": 500, "output_tokens": 150, "cost": Decimal("0.000625"), "attempt": 3}, b"{}"),
    "c": ({"input_tokens": 0, "output_tokens": 9, "list_price": Decimal("12.5")}, b'{"message":1}'),
    "d": ({"input_tokens": 1, "output_tokens": 2, "cache_write_tokens": 3, "cache_read_tokens": 4}, b"{}"),
    "e": ({"state": "discarded", "outcome": "errored", "error": "overloaded_error"}, ERROR),
    "f": (
        {"state": "canceled", "outcome": "canceled", "metadata": '{"n":[1,"\u00e9"]}'},
        b'{"type":"canceled"}',
    ),
    "0": ({"outcome": "expired", "state": "discarded"}, b"not JSON"),
    "1": ({}, b""),
    "2": (
        {"finished_at": NOW + 1_000, "enqueued_at": NOW - 86_400_000},
        b'{"type":"succeeded","message":null}',
    ),
}


def given(engine: sa.Engine, model: str = "claude-haiku-4-5", suffix: str = "") -> list[str]:
    ids = {digit: (digit + suffix).ljust(32, digit) for digit in ENDS}
    rows = [
        completed_request(ids[digit], NOW, callback=CALLBACK, model=model) | columns
        for digit, (columns, _) in ENDS.items()
    ]
    with database.write(engine) as connection:
        insert_requests(connection, rows, answers={ids[digit]: body for digit, (_, body) in ENDS.items()})
        insert_owed(connection, NOW + 1_000)
    return list(ids.values())


def claim(engine: sa.Engine) -> list[Claimed]:
    with database.write(engine) as connection:
        return claim_all(connection, NOW)


def load(engine: sa.Engine, claimed: list[Claimed], most_bytes: int = 1_000_000) -> list[list[Sendable]]:
    with database.read(engine) as connection:
        return list(sendable.load(connection, claimed, most_bytes).values())


def test_it_is_the_answer_that_everybody_gets(engine: sa.Engine) -> None:
    # Given answers of all kinds, of two models, one of which nobody would name so
    ids = [*given(engine), *given(engine, 'claude "\u00e9"', "9")]

    # When
    sent = {one.request_id: answer_json(one) for some in load(engine, claim(engine)) for one in some}

    # Then
    with database.read(engine) as connection:
        answers = load_answers(connection, ids)
    assert sent == {id_: to_json(answer) for id_, answer in answers.items()}
    assert all(json.loads(one) for one in sent.values())


def test_what_is_loaded_has_the_place_and_the_callback_that_it_is_for(engine: sa.Engine) -> None:
    ids = given(engine)

    [some] = load(engine, claim(engine))

    assert [(one.position, one.request_id, one.callback) for one in some] == [
        (position, id_, CALLBACK) for position, id_ in enumerate(ids)
    ]


def test_a_request_that_was_retried_or_is_gone_is_not_sent(engine: sa.Engine) -> None:
    # Given
    ids = given(engine)
    row = tables.requests.c
    with database.write(engine) as connection:
        retried = {"answer_id": None, "finished_at": None, "state": "batched"}
        connection.execute(sa.update(tables.requests).where(row.id == ids[0]).values(retried))
        connection.execute(sa.delete(tables.requests).where(row.id == ids[1]))

    # When
    [some] = load(engine, claim(engine))

    # Then
    assert [one.request_id for one in some if one.request is None] == ids[:2]


def test_as_many_segments_are_loaded_as_there_is_room_for(engine: sa.Engine) -> None:
    # Given three segments of answers, and one more that is gone
    for suffix in "3456":
        given(engine, suffix=suffix)
    claimed = sorted(claim(engine))
    with database.write(engine) as connection:
        gone = tables.answers.c.id == claimed[3].answer_id
        connection.execute(sa.delete(tables.answers).where(gone))

    # When
    with database.read(engine) as connection:
        loaded = sendable.load(connection, claimed, 1)

    # Then
    assert {key: len(some) for key, some in loaded.items()} == {claimed[3][:2]: 0, claimed[0][:2]: len(ENDS)}
