"""Packs the answers of a chunk for the producers that wait for them, in the bytes in which they are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from carpool.contract import PackedAnswers
from carpool_worker.states import COMPLETE
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.rows import Pending
from carpool_worker.store.requests.segments import AnswersSegment
from carpool_worker.units import Milliseconds

Replies = dict[str, list[PackedAnswers]]
"""What is pushed to each reply list."""

T = TypeVar("T")
R = TypeVar("R")


def packed(
    stored: Iterable[AnswersSegment],
    endings: Iterable[Ending],
    waiting: Mapping[str, Pending],
    claude_id: str | None,
    at: Milliseconds,
    processing: str | None = None,
) -> Replies:
    """Return what is to be pushed of the stored answers of a batch, by the lists that their requests name.

    `processing` is "real_time" if they are of a call instead.
    """
    by_id = {one.id: one for one in endings if one.reply_to}
    replies: defaultdict[str, list[PackedAnswers]] = defaultdict(list)
    for segment in stored:
        if reply_to := segment.ids[0] in by_id and by_id[segment.ids[0]].reply_to:
            some = [by_id[id_] for id_ in segment.ids]
            waited = [waiting[id_] for id_ in segment.ids]
            replies[reply_to].append(_packed(segment, some, waited, claude_id, at, processing))
    return replies


def _packed(
    segment: AnswersSegment,
    endings: Sequence[Ending],
    waited: Sequence[Pending],
    claude_id: str | None,
    at: Milliseconds,
    processing: str | None,
) -> PackedAnswers:
    metadata = [None if one.metadata is None else one.metadata.encode() for one in waited]
    return PackedAnswers(
        client=segment.client,
        model=waited[0].terms.model,
        batch_id=claude_id,
        finished_at=at,
        ids=bytes.fromhex("".join(segment.ids)),
        results=segment.body,
        enqueued_at=[one.enqueued_at for one in waited],
        states=_unless(COMPLETE.target.value, endings, lambda one: one.transition.target.value),
        outcomes=_unless("succeeded", endings, lambda one: one.outcome),
        input_tokens=_unless(None, endings, lambda one: one.input_tokens),
        output_tokens=_unless(None, endings, lambda one: one.output_tokens),
        cache_write_tokens=_unless(None, endings, lambda one: one.cache_write_tokens),
        cache_read_tokens=_unless(None, endings, lambda one: one.cache_read_tokens),
        costs=_unless(None, endings, lambda one: one.cost),
        list_prices=_unless(None, endings, lambda one: one.list_price),
        attempts=_unless(1, waited, lambda one: one.attempt),
        metadata=metadata if any(metadata) else None,
        processing=processing,
    )


def _unless(default: T, rows: Sequence[R], value: Callable[[R], T]) -> list[T] | None:
    """Return a value for each row, or None if all are the default."""
    values = [value(one) for one in rows]
    return values if any(one != default for one in values) else None
