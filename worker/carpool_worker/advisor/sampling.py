"""Takes samples of answered requests from all over each lane's batches, and measures their params.

No content is kept: only the hash and the length of a prompt's beginning.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from carpool_worker.prompt_cache.prefixes import MARK, Beginning
from carpool_worker.store.reports import samples
from carpool_worker.store.reports.samples import Answered, Opened

MOST_SAMPLED_BATCHES = 64
LEAST_OF_A_LANE = 4
ROWS = 50
"""How many batches are sampled, how many of each lane at least, and how many rows at each of four places of a batch."""

BETWEEN = (1 / 3, 2 / 3)
"""Two of these places, as parts of the time that a batch was open."""

MOST_OF_A_GROUP = 400
MOST_BYTES = 64_000_000
"""The most params that are read: requests of a client and a model, and bytes in all."""

SEED = 20_261_122
"""Fixed, so that the same tables give the same advice."""


class Asked(Beginning, frozen=True, kw_only=True):
    """The part of a request's params that is read."""

    max_tokens: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered request: what it used, how long its answer was allowed to be, and its prefix."""

    client: str
    model: str
    params_bytes: int
    prompt_tokens: int  # cached ones included
    output_tokens: int
    max_tokens: int
    prefix: str | None  # identifies its tools and system prompt
    prefix_bytes: int
    is_marked: bool  # for the cache


Groups = dict[tuple[str, str], list[Sample]]
"""Samples by client and model."""


def by_client_and_model(taken: Iterable[Sample]) -> Groups:
    """Group samples."""
    groups: Groups = defaultdict(list)
    for sample in taken:
        groups[sample.client, sample.model].append(sample)
    return groups


def take(connection: sa.Connection, batches: Sequence[Opened], client: str | None) -> Iterator[Sample]:
    """Yield samples of the requests in these batches, or near them, whose params are still stored."""
    rng = random.Random(SEED)  # noqa: S311 (no secret depends on it)
    found = {row.id: row for batch in picked(batches, rng) for row in _rows(connection, batch)}
    rows = [row for row in found.values() if client in (None, row.client)]
    rng.shuffle(rows)
    for row, body in samples.bodies(connection, within_limits(rows)):
        if sample := measured(row, body):
            yield sample


def picked(batches: Sequence[Opened], rng: random.Random) -> list[Opened]:
    """Return a bounded number of batches, some of every lane; larger ones are more likely."""
    lanes: dict[str, list[Opened]] = defaultdict(list)
    for batch in batches:
        lanes[batch.lane].append(batch)
    each = max(LEAST_OF_A_LANE, MOST_SAMPLED_BATCHES // max(len(lanes), 1))
    chosen: list[Opened] = []
    for lane in lanes.values():
        drawn = sorted(lane, key=lambda batch: rng.random() ** (1 / batch.request_count), reverse=True)
        chosen += drawn[:each]
    return chosen


def _rows(connection: sa.Connection, batch: Opened) -> Iterator[Answered]:
    # Only what indexes find quickly, however large the batch: some of its own rows, and by id (ids begin with the time)
    # rows that arrived while it was open and just before it was sealed.
    yield from samples.answered_in(connection, batch.id, ROWS)
    sealed_at = batch.sealed_at or batch.opened_at
    for part in BETWEEN:
        at = batch.opened_at + int((sealed_at - batch.opened_at) * part)
        yield from samples.answered_from(connection, first_id(at), ROWS)
    yield from samples.answered_until(connection, first_id(sealed_at), ROWS)


def first_id(at: int) -> str:
    """Return the id (UUIDv7) before all those made from `at` on, in milliseconds since the epoch."""
    return f"{at:012x}".ljust(32, "0")


def within_limits(rows: Sequence[Answered]) -> list[Answered]:
    """Return the rows whose params are to be read."""
    taken: dict[tuple[str, str], int] = defaultdict(int)
    left, wanted = MOST_BYTES, []
    for row in rows:
        if taken[row.client, row.model] < MOST_OF_A_GROUP and row.params_bytes <= left:
            taken[row.client, row.model] += 1
            left -= row.params_bytes
            wanted.append(row)
    return wanted


def measured(row: Answered, body: bytes) -> Sample | None:
    """Return a sample of a request, or None if its params can't be read."""
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except msgspec.MsgspecError:
        return None
    return Sample(
        client=row.client,
        model=row.model,
        params_bytes=row.params_bytes,
        prompt_tokens=row.input_tokens + row.cache_write_tokens + row.cache_read_tokens,
        output_tokens=row.output_tokens,
        max_tokens=asked.max_tokens,
        prefix=asked.prefix(body),
        prefix_bytes=asked.length,
        is_marked=MARK in body,
    )
