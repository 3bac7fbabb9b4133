"""Writes results, a line each, in the format of Anthropic's own batches, and finds those that have not ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, TypeVar

import msgspec
import sqlalchemy as sa

from carpool import RequestIds
from carpool.answers import PRUNED
from carpool_worker.database import read
from carpool_worker.files.id_files import NamedRequest
from carpool_worker.store.requests import results

IDS_A_QUERY = 5_000
"""Requests looked up in one query."""

READ_ANSWERS = 200
"""Answers in memory at a time; most are a few kilobytes."""

NO_LONGER_KEPT = b'{"type":"errored","error":{"type":"error","error":' + bytes(PRUNED) + b"}}"

MISSING = "missing"
"""The outcome under which requests that have not ended are counted."""

T = TypeVar("T")


def outstanding(engine: sa.Engine, ids: RequestIds) -> RequestIds:
    """Return those of `ids` that have not ended, or are not stored yet."""
    left = RequestIds()
    for some in _chunks(ids, IDS_A_QUERY):
        with read(engine) as connection:
            ended = results.ended(connection, some)
        left.extend(one for one in some if one not in ended)
    return left


def write_lines(
    engine: sa.Engine, named: Iterable[NamedRequest], out: IO[bytes], progress: Callable[[int], None]
) -> Counter[str]:
    """Write a line for each request that has ended, in this order, and count the outcomes.

    Each result has the bytes that Anthropic sent. Calls `progress` with the number of requests looked up.
    """
    outcomes: Counter[str] = Counter()
    for some in _chunks(named, READ_ANSWERS):
        with read(engine) as connection:
            found = results.of_ended(connection, [one.id for one in some])
        for one in some:
            if ended := found.get(one.id):
                out.write(_line(one.custom_id, ended.body or NO_LONGER_KEPT))
            outcomes[ended.outcome if ended else MISSING] += 1
        progress(len(some))
    return outcomes


def streamed(engine: sa.Engine, ids: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines of those requests that have ended, some at a time, each under the request's id.

    Each part is read in a transaction of its own, as whoever takes it may be slow.
    """
    for some in _chunks(ids, READ_ANSWERS):
        with read(engine) as connection:
            found = results.of_ended(connection, some)
        yield b"".join(_line(id_, found[id_].body or NO_LONGER_KEPT) for id_ in some if id_ in found)


def _line(custom_id: str, result: bytes) -> bytes:
    return b'{"custom_id":' + msgspec.json.encode(custom_id) + b',"result":' + result + b"}\n"


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
