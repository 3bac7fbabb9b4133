"""Writes results a line each, in the format of Anthropic's own batches, and waits until there are all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, TypeVar

import msgspec
import sqlalchemy as sa

from carpool import RequestIds
from carpool_worker.database import read
from carpool_worker.files.id_files import Named
from carpool_worker.store.requests import results
from carpool_worker.store.requests.answers import PRUNED

LOOK_IDS = 5_000
"""Requests asked after in one query."""

READ_ANSWERS = 200
"""Answers in memory at a time; most have a few kilobytes."""

NO_LONGER_KEPT = b'{"type":"errored","error":{"type":"error","error":' + bytes(PRUNED) + b"}}"

MISSING = "missing"
"""Counted among the outcomes: requests that have not ended."""

T = TypeVar("T")


def outstanding(engine: sa.Engine, ids: RequestIds) -> RequestIds:
    """Return those of `ids` that have not ended, or that the tables don't know yet."""
    left = RequestIds()
    for some in _chunks(ids, LOOK_IDS):
        with read(engine) as connection:
            ended = results.ended(connection, some)
        left.extend(one for one in some if one not in ended)
    return left


def write_lines(
    engine: sa.Engine, named: Iterable[Named], out: IO[bytes], progress: Callable[[int], None]
) -> Counter[str]:
    """Write a line for each request that has ended, in this order, and count the outcomes.

    What Anthropic said stands there byte for byte. `progress` hears how many requests were looked at.
    """
    outcomes: Counter[str] = Counter()
    for some in _chunks(named, READ_ANSWERS):
        with read(engine) as connection:
            found = results.of_ended(connection, [one.id for one in some])
        for one in some:
            if held := found.get(one.id):
                out.write(_line(one.custom_id, held.body or NO_LONGER_KEPT))
            outcomes[held.outcome if held else MISSING] += 1
        progress(len(some))
    return outcomes


def _line(custom_id: str, result: bytes) -> bytes:
    return b'{"custom_id":' + msgspec.json.encode(custom_id) + b',"result":' + result + b"}\n"


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
