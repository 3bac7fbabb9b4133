"""Lines out of a stream of bytes, however it is cut into chunks."""

from __future__ import annotations

import json
from itertools import islice, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carpool_worker.claude.result_lines import result_lines
from carpool_worker.exceptions import ResultsCut

lines = st.lists(
    st.text(max_size=8).map(lambda text: json.dumps({"custom_id": text, "result": {"message": {}}}).encode()),
    max_size=6,
)


def in_pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    return [stream[start:end] for start, end in pairwise(places)]


@given(lines, st.lists(st.integers(0, 10_000)), st.booleans())
def test_the_same_lines_come_out_however_the_stream_is_cut(
    lines: list[bytes], cuts: list[int], last_newline: bool
) -> None:
    stream = b"\n".join(lines) + (b"\n" if last_newline else b"")

    assert list(result_lines(iter(in_pieces(stream, cuts)))) == lines


@given(lines.filter(len), st.integers(1, 10_000))
@example([b'{"custom_id": "a", "result": {"message": {}}}'], 1)
def test_a_stream_that_ends_within_a_line_raises_after_the_whole_ones(
    lines: list[bytes], missing: int
) -> None:
    last = lines[-1]
    stream = b"\n".join(lines)[: -(1 + missing % (len(last) - 1))]
    came_out = result_lines(iter([stream]))

    assert list(islice(came_out, len(lines) - 1)) == lines[:-1]
    with pytest.raises(ResultsCut):
        next(came_out)


def test_empty_lines_are_skipped() -> None:
    assert list(result_lines(iter([b"\n\n{}\n", b"\n{}\n\n"]))) == [b"{}", b"{}"]


def test_a_last_line_that_is_nested_too_deeply_to_be_read_is_a_line() -> None:
    line = b"[" * 5_000 + b"]" * 5_000

    assert list(result_lines(iter([b"{}\n" + line]))) == [b"{}", line]
