"""Packed answers: a Result made from them is the one that the JSON of the same Answer makes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from carpool import InvalidAnswer, Result
from carpool.answers import PRUNED, REASONS, UNREADABLE, dollars, message_and_error, rfc3339, unpack_answers
from carpool.contract import ABSENT, Answer, PackedAnswers, Usage, encode_answers, mint_id, to_json
from carpool.segments import SEGMENT_REQUESTS, pack

MESSAGE = b'{"id":"msg_01","content":[{"type":"text","text":"Positive."}]}'
SUCCEEDED = b'{"type":"succeeded","message":%b}' % MESSAGE
DETAIL = b'{"type":"invalid_request_error","message":"max_tokens: too large"}'
ERRORED = b'{"type":"errored","error":{"type":"error","error":%b,"request_id":"req_1"}}' % DETAIL

PROPERTIES = tuple(name for name, member in vars(Result).items() if not callable(member) and name[0] != "_")


def packed(bodies: list[bytes], **columns: Any) -> bytes:
    fields: dict[str, Any] = {
        "client": "tests",
        "model": "claude-haiku-4-5",
        "batch_id": "msgbatch_1",
        "finished_at": 1_790_000_000_250,
        "ids": b"".join(at.to_bytes(16, "big") for at in range(len(bodies))),
        "results": pack(bodies),
        "enqueued_at": [1_780_000_000_007] * len(bodies),
    }
    return encode_answers(PackedAnswers(**fields | columns))


def read(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in PROPERTIES}


def test_a_result_of_packed_answers_is_that_of_the_same_answers_as_json() -> None:
    # Given one of each kind, and the Answers that the worker would make of them
    ids = [mint_id("tests") for _ in range(4)]
    shared: dict[str, Any] = {
        "client": "tests",
        "model": "m",
        "batch_id": "msgbatch_1",
        "finished_at": rfc3339(1_790_000_000_250),
    }
    answers = [
        Answer(
            id=ids[0],
            state="completed",
            outcome="succeeded",
            message=msgspec.Raw(MESSAGE),
            usage=Usage(20, 4, 3, 2),
            cost="0.00004",
            list_price="0.00008",
            metadata=msgspec.Raw(b'{"a":1}'),
            attempts=2,
            enqueued_at="2026-08-01T12:00:00.001Z",
            **shared,
        ),
        Answer(
            id=ids[1],
            state="discarded",
            outcome="errored",
            error=msgspec.Raw(DETAIL),
            enqueued_at="2026-08-01T12:00:00.999Z",
            **shared,
        ),
        Answer(
            id=ids[2],
            state="canceled",
            outcome="canceled",
            error=error_json("canceled", REASONS["canceled"]),
            usage=Usage(1, 0),
            cost="1200",
            list_price="0",
            enqueued_at="2026-08-01T12:00:00.000Z",
            **shared,
        ),
        Answer(
            id=ids[3],
            state="discarded",
            outcome="expired",
            error=PRUNED,
            enqueued_at="2026-08-01T12:00:01.000Z",
            **shared,
        ),
    ]
    at = 1_785_585_600_000
    # When
    made = unpack_answers(
        packed(
            [SUCCEEDED, ERRORED, b'{"type":"canceled"}', b""],
            model="m",
            ids=bytes.fromhex("".join(ids)),
            enqueued_at=[at + 1, at + 999, at, at + 1_000],
            states=["completed", "discarded", "canceled", "discarded"],
            outcomes=["succeeded", "errored", "canceled", "expired"],
            input_tokens=[20, None, 1, None],
            output_tokens=[4, None, None, None],
            cache_write_tokens=[3, None, None, None],
            cache_read_tokens=[2, None, None, None],
            costs=[40_000_000, None, 1_200 * 10**12, None],
            list_prices=[80_000_000, None, 0, None],
            attempts=[2, 1, 1, 1],
            metadata=[b'{"a":1}', None, None, None],
        )
    )
    # Then
    assert len(PROPERTIES) == 20
    for one, answer in zip(made, answers, strict=True):
        assert read(Result(one)) == read(Result.from_json(to_json(answer)))


def test_what_is_not_given_has_its_default() -> None:
    [answer] = unpack_answers(packed([SUCCEEDED]))
    made = answer.answer()
    assert (made.state, made.outcome, made.attempts, made.metadata) == ("completed", "succeeded", 1, ABSENT)
    assert (made.usage, made.cost, made.list_price) == (None, None, None)


def test_a_whole_segment_keeps_its_order_and_no_answer_keeps_the_segment() -> None:
    bodies = [b'{"type":"succeeded","message":{"id":"msg_%d"}}' % n for n in range(SEGMENT_REQUESTS)]
    answers = unpack_answers(packed(bodies))
    assert [answer.result for answer in answers] == bodies
    assert answers[0].packed.results == b""


@pytest.mark.parametrize(
    "item",
    [
        b"",
        b"\xc1",
        b"{}",
        msgspec.msgpack.encode([1, 2]),
        packed([SUCCEEDED], results=b"no segment"),
        packed([SUCCEEDED], ids=b"x"),
        packed([SUCCEEDED], ids=b""),
        packed([SUCCEEDED], enqueued_at=[]),
        packed([SUCCEEDED], costs=[1, 2]),
        packed([SUCCEEDED], states=[]),
    ],
    ids=range(10),
)
def test_what_is_no_packed_answers_is_refused(item: bytes) -> None:
    with pytest.raises(InvalidAnswer, match="not packed answers of Carpool"):
        unpack_answers(item)


NO_REASON = REASONS["errored"]


def error_json(kind: str, message: str) -> msgspec.Raw:
    return msgspec.Raw(to_json({"type": kind, "message": message}))


UNEXPLAINED = error_json("unknown", NO_REASON)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, (ABSENT, PRUNED)),
        (b"", (ABSENT, PRUNED)),
        (b"nonsense", (ABSENT, UNREADABLE)),
        (b"\xff", (ABSENT, UNREADABLE)),
        (SUCCEEDED, (msgspec.Raw(MESSAGE), ABSENT)),
        (ERRORED, (ABSENT, msgspec.Raw(DETAIL))),
        (b'{"type":"errored","error":7}', (ABSENT, UNREADABLE)),
        (b'{"type":"errored","error":{"error":{"message":1}}}', (ABSENT, UNEXPLAINED)),
        (b'{"type":"errored","error":null}', (ABSENT, UNEXPLAINED)),
        (b'{"type":"errored","error":{}}', (ABSENT, UNEXPLAINED)),
        (b'{"type":"errored"}', (ABSENT, UNEXPLAINED)),
        (b'{"type":"errored","error":' + DETAIL + b"}", (ABSENT, msgspec.Raw(DETAIL))),
        (b'{"type":"errored","error":"no"}', (ABSENT, error_json("unknown", "no"))),
        (b'{"type":"errored","error":{"error":"no"}}', (ABSENT, error_json("unknown", "no"))),
        (b'{"type":"errored","error":{"type":"a","message":" "}}', (ABSENT, error_json("a", NO_REASON))),
        (b'{"type":"errored","error":{"message":"b"}}', (ABSENT, error_json("unknown", "b"))),
        (b'{"type":"expired"}', (ABSENT, error_json("expired", REASONS["expired"]))),
        (b'{"type":"canceled","error":null}', (ABSENT, error_json("canceled", REASONS["canceled"]))),
        (b'{"type":"succeeded","message":{},"error":null}', (msgspec.Raw(b"{}"), ABSENT)),
    ],
)
def test_a_stored_result_has_a_message_or_an_error(result: bytes | None, expected: tuple[Any, Any]) -> None:
    message, error = message_and_error(result)
    assert (bytes(message), bytes(error)) == tuple(map(bytes, expected))


def test_an_outcome_that_is_not_known_is_named_with_its_reason() -> None:
    _, error = message_and_error(b'{"type":"filtered","reason":"policy"}')

    said = json.loads(bytes(error))
    assert said["type"] == "filtered"
    assert "policy" in said["message"]


@pytest.mark.parametrize(
    ("picodollars", "text"),
    [(None, None), (0, "0"), (1, "0.000000000001"), (10**14, "100"), (1_500_000_000_000, "1.5")],
)
def test_money_is_exact(picodollars: int | None, text: str | None) -> None:
    assert dollars(picodollars) == text
