"""However results were written on their way, each answer is read; and what is no result is told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from carpool_worker.claude.result_lines import result_lines
from carpool_worker.claude.results import BOM, ReadChunk, in_chunks, parse, read_chunk
from carpool_worker.exceptions import ResultsCut

TEXTS = ["plain", 'a brace } { and a quote " and \\', "line\nend, [1] Grüße 😀"]


def line(custom_id: str, text: str) -> bytes:
    message = {"model": "m", "usage": {"input_tokens": 1}, "content": [{"type": "text", "text": text}]}
    result = {"type": "succeeded", "message": message}
    return json.dumps({"custom_id": custom_id, "result": result}, separators=(",", ":")).encode()


LINES = [line(f"r{n}", text) for n, text in enumerate(TEXTS)]
PRETTY = [json.dumps(json.loads(one), indent=2).encode() for one in LINES]
ALL = {"r0", "r1", "r2"}

FORMS = {
    "as the API writes them": b"\n".join(LINES) + b"\n",
    "without the last newline": b"\n".join(LINES),
    "with carriage returns": b"\r\n".join(LINES) + b"\r\n",
    "one array": b"[" + b",".join(LINES) + b"]",
    "an array, a line each": b"[\n" + b",\n".join(LINES) + b"\n]\n",
    "an array over many lines": json.dumps([json.loads(one) for one in LINES], indent=1).encode(),
    "objects over several lines": b"\n".join(PRETTY),
    "a byte order mark": BOM + b"\n".join(LINES),
    "a byte order mark and an array": BOM + b" [" + b",".join(LINES) + b"]\n",
    "a byte order mark in each line": b"\n".join(BOM + one for one in LINES),
    "empty lines": b"\n\n \r\n\t\n".join([b"", *LINES, b"", b""]),
}


def in_pieces(body: bytes, size: int) -> Iterator[bytes]:
    return iter([body[start : start + size] for start in range(0, len(body), size)])


def read(body: bytes, size: int = 1_000) -> ReadChunk:
    return read_chunk(list(result_lines(in_pieces(body, size))))


def texts(chunk: ReadChunk) -> list[Any]:
    found = sorted(chunk.succeeded.items())
    return [json.loads(result.body)["message"]["content"][0]["text"] for _, result in found]


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_every_form_of_the_same_results_has_the_same_answers(body: bytes, size: int) -> None:
    chunk = read(body, size)

    assert texts(chunk) == TEXTS
    assert (chunk.lines, chunk.broken, chunk.strange) == (3, 0, 0)


@pytest.mark.parametrize("body", FORMS.values(), ids=FORMS.keys())
def test_a_body_that_is_cut_anywhere_loses_no_more_than_it_lacks_and_invents_nothing(body: bytes) -> None:
    for end in range(0, len(body), 11):
        lines = []
        try:
            for chunk in in_chunks(result_lines(in_pieces(body[:end], 64))):
                lines += chunk
        except ResultsCut:
            pass
        found = read_chunk(lines)
        assert set(found.succeeded) <= ALL
        assert texts(found) == TEXTS[: len(found.succeeded)]


@pytest.mark.parametrize(
    "broken",
    [
        LINES[0][:40],
        LINES[0].replace(b'"custom_id":"r0"', b'"custom_id":"r0'),
        LINES[0].replace(b'"result"', b'"result'),
        b'{"custom_id":"r0","result":{"type":"succeeded"}}',
        b'{"custom_id":"r0","result":{"type":"succeeded","message":null}}',
        b'{"custom_id":"r0","result":{}}',
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_broken_line_costs_the_others_nothing(broken: bytes, place: int) -> None:
    lines = [*LINES[1:]]
    lines.insert(place, broken)

    chunk = read(b"\n".join(lines) + b"\n")

    assert set(chunk.succeeded) == {"r1", "r2"}
    assert chunk.broken >= 1
    assert chunk.strange == 0


@pytest.mark.parametrize(
    "body",
    [
        b"<html>\n<p>Sign in</p>\n</html>\n",
        json.dumps({"type": "error", "error": {"type": "api_error", "message": 'no "custom_id"'}}).encode(),
        json.dumps({"type": "error", "error": {"type": "api_error"}}, indent=2).encode(),
        b'{"type":"error"}\n{"type":"error"}\n',
        b'"text"\n7\nnull\n',
        '{"custom_id":"r0"}'.encode("utf-16") + b"\n",
    ],
)
def test_what_is_no_result_is_strange(body: bytes) -> None:
    chunk = read(body)

    assert not chunk.succeeded
    assert not chunk.others
    assert chunk.strange == chunk.lines > 0


@pytest.mark.parametrize("body", [b"", b"\n\n", b" \r\n", BOM, b"[]", b"[\n]\n"])
def test_an_empty_body_has_no_lines(body: bytes) -> None:
    assert read(body).lines == 0


def test_of_two_results_the_one_that_succeeded_counts_wherever_it_stands() -> None:
    failed = b'{"custom_id":"r0","result":{"type":"errored","error":{"type":"error"}}}'

    for lines in ([failed, LINES[0]], [LINES[0], failed], [failed, LINES[0], failed]):
        chunk = read_chunk(lines)
        assert (set(chunk.succeeded), set(chunk.others)) == ({"r0"}, set())
        assert parse(lines)["r0"].parsed.type == "succeeded"


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=5), st.integers(1, 50), st.booleans())
def test_whatever_answers_say_an_array_of_them_is_read_as_their_lines_are(
    said: list[str], size: int, indented: bool
) -> None:
    lines = [line(f"r{n}", text) for n, text in enumerate(said)]
    array = json.dumps([json.loads(one) for one in lines], indent=1 if indented else None).encode()

    assert texts(read(array, size)) == texts(read(b"\n".join(lines) + b"\n", size)) == said


def test_a_long_string_takes_no_more_memory_than_itself() -> None:
    body = b"[" + line("r0", "x" * 5_000_000) + b"]"

    [only] = result_lines(iter([body]))

    assert len(only) == len(body) - 2
