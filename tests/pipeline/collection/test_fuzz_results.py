"""Whatever the results say: each request ends with its answer or a clear error, and every answer can be delivered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis.strategies as st
from hypothesis import given
from tests.fixtures.agents import GIVE_UP_AT_ONCE, Carpool, request
from tests.fixtures.clients import Edit, Edited
from tests.pipeline.fuzzing import fuzzed, json_values

from carpool import Producer, Result, Webhook
from carpool.contract import Answer, to_json
from carpool_worker.claude.client import Claude
from carpool_worker.claude.result_lines import result_lines
from carpool_worker.database import read
from carpool_worker.pipeline.collection import collector
from carpool_worker.pipeline.submission import rescuer
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.store.deliveries import coverage
from carpool_worker.store.requests.answers import load_answers

HOOK = Webhook("https://example.com/answers")
ONCE = CollectPolicy(max_attempts=1, retry_interval=0.001)
REQUESTS = 3
PIECE = 1_000
"""Bytes that come at a time."""
RESULTS_KEPT = 29 * 86_400_000
"""Milliseconds."""


class InPieces(Edited):
    """Its results come in pieces that are no lines, and may end without a newline."""

    def __init__(self, edit: Edit, end: bytes = b"\n") -> None:
        super().__init__(edit)
        self._end = end

    def results(self, *arguments: Any) -> Iterator[bytes]:
        stream = b"\n".join(super().results(*arguments)) + self._end
        yield from result_lines(
            iter([stream[start : start + PIECE] for start in range(0, len(stream), PIECE)])
        )


def within(line: bytes, path: tuple[str, ...], value: Any) -> bytes:
    """Return the line with another value at that path."""
    whole = json.loads(line)
    inner = whole
    for name in path[:-1]:
        inner = inner.get(name) or {}
    inner[path[-1]] = value
    return json.dumps(whole).encode()


def overwrite(line: bytes, place: int, junk: bytes) -> bytes:
    place %= len(line)
    return line[:place] + junk + line[place + len(junk) :]


def nest(line: bytes, levels: int) -> bytes:
    return line.replace(b'"type":"text"', b'"type":"text","x":' + b"[" * levels + b"]" * levels, 1)


USAGE = ("result", "message", "usage")
paths = st.sampled_from(
    [
        ("custom_id",),
        ("result",),
        ("result", "type"),
        ("result", "message"),
        ("result", "message", "model"),
        ("result", "message", "content"),
        USAGE,
        *(
            (*USAGE, name)
            for name in ("input_tokens", "output_tokens", "cache_creation", "cache_creation_input_tokens")
        ),
        ("result", "error"),
    ]
)
odd = st.one_of(
    json_values,
    st.integers(-(2**70), 2**70),
    st.sampled_from(["a,b", "a\0b", "\ud800", "", "x" * 2_000, "errored", "expired", "canceled", "paused"]),
    st.sampled_from(
        [{"error": {"type": "\0", "message": "\ud800"}}, {"error": None}, {"error": {"type": 1}}]
    ),
)
line_edits: st.SearchStrategy[Callable[[bytes], list[bytes]]] = st.one_of(
    st.builds(lambda path, value: lambda line: [within(line, path, value)], paths, odd),
    st.builds(lambda at, junk: lambda line: [overwrite(line, at, junk)], st.integers(0), st.binary(min_size=1)),
    st.builds(lambda at: lambda line: [line[: at % len(line)]], st.integers(0)),
    st.builds(lambda junk: lambda line: [junk, line], st.binary()),
    st.builds(lambda levels: lambda line: [nest(line, levels)], st.integers(1, 3_000)),
    st.sampled_from(
        [
            lambda line: [],
            lambda line: [line, line],
            lambda line: [line + b"\r"],
            lambda line: [b"", b" ", line],
            lambda line: [b"\xef\xbb\xbf" + line],
            lambda line: [line + line],
        ]
    ),
)  # fmt: skip
edits = st.lists(st.none() | line_edits, min_size=REQUESTS, max_size=REQUESTS)


def test_each_request_ends_whatever_its_results_say(carpool: Carpool, producer: Producer) -> None:
    @fuzzed(25)
    @given(edits, st.booleans(), st.sampled_from([b"\n", b"", b"\r\n", b"{", b"\n\n"]))
    def attack(line_edits: list[Any], swapped: bool, end: bytes) -> None:
        # Given a batch that has ended
        ids = sorted(producer.enqueue_many([request(str(n)) for n in range(REQUESTS)], callback=HOOK))
        carpool.aggregate()
        carpool.submit()
        carpool.until_polled("ended")

        # When its results are not what they should be, and stay so
        claude = InPieces(lambda lines: edited(lines, line_edits, swapped), end)
        until_over(carpool, claude)
        claude.close()

        # Then
        assert_all_have_ended(carpool, ids)

    attack()


def edited(lines: list[bytes], line_edits: list[Any], swapped: bool) -> list[bytes]:
    if swapped:
        first, second = (json.loads(line)["custom_id"].encode() for line in lines[:2])
        lines = [lines[1].replace(second, first), lines[0].replace(first, second), *lines[2:]]
    return [
        out for line, edit in zip(lines, line_edits, strict=True) for out in (edit(line) if edit else [line])
    ]


def until_over(carpool: Carpool, claude: Claude) -> None:
    """Collect now, an hour later and a month later; then continue with results as they come."""
    for milliseconds in (0, 3_600_000, RESULTS_KEPT):
        past = ", ".join(f"{name} = {name} - {milliseconds}" for name in ("ended_at", "incomplete_at"))
        carpool.change(f"UPDATE batches SET {past}, due_at = 0")
        for (batch_id,) in carpool.rows("SELECT id FROM batches WHERE state = 'ended'"):
            collector.collect(carpool.engine, claude, batch_id, ONCE, carpool.announce)
    rescuer.rescue(carpool.engine, [carpool.claude], GIVE_UP_AT_ONCE)
    carpool.until(lambda: carpool.rows("SELECT count(*) FROM requests WHERE finished_at IS NULL") == [(0,)])


def assert_all_have_ended(carpool: Carpool, ids: list[str]) -> None:
    with read(carpool.engine) as connection:
        answers = load_answers(connection, ids)
    assert sorted(answers) == ids
    for answer in answers.values():
        assert_is_deliverable(answer)
    with read(carpool.engine) as connection:
        owed = coverage.of_requests(connection, ids)
    assert len(owed) == REQUESTS


def assert_is_deliverable(answer: Answer) -> None:
    body = to_json(answer)
    json.loads(body.decode())
    result = Result.from_json(body)
    assert result.outcome == "succeeded" or (result.error and result.error.type and result.error.message)


def test_an_answer_of_fifty_megabytes_is_kept_and_can_be_delivered(
    carpool: Carpool, producer: Producer
) -> None:
    # Given
    request_id = producer.enqueue(request(), callback=HOOK)
    carpool.aggregate()
    carpool.submit()
    carpool.until_polled("ended")
    text = "a" * 50_000_000

    # When
    content = ("result", "message", "content")
    claude = InPieces(
        lambda lines: [within(line, content, [{"type": "text", "text": text}]) for line in lines]
    )
    until_over(carpool, claude)
    claude.close()

    # Then
    with read(carpool.engine) as connection:
        [answer] = load_answers(connection, [request_id]).values()
    assert Result.from_json(to_json(answer)).text == text
