"""SQL about the requests of a client's batch: found through its segments, canceled, and read with their results."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from carpool.request_ids import RequestIds
from carpool_worker.models.tables import answers, requests, segments
from carpool_worker.store.client_batches import counts
from carpool_worker.store.client_batches import rows as client_batches
from carpool_worker.store.requests import ended_batches
from carpool_worker.store.requests.cancellations import CANCELABLE
from carpool_worker.store.requests.rows import among
from carpool_worker.store.requests.segments import bodies

PAGE_SEGMENTS = 200
PAGE_REQUESTS = 5_000
"""Read from the database at a time."""


def ids(connection: sa.Connection, batch_id: str) -> RequestIds:
    """Return the ids of the requests of a client's batch, in their order; of those that still have a segment."""
    found = RequestIds()
    wanted = client_batches.segments_of(connection, batch_id)
    for start in range(0, len(wanted), PAGE_SEGMENTS):
        page = wanted[start : start + PAGE_SEGMENTS]
        rows = sa.select(segments.c.id, segments.c.ids).where(segments.c.id.in_(list(page)))
        packed = {row.id: row.ids for row in connection.execute(rows)}
        for segment_id in page:
            found.extend([packed.get(segment_id, b"").hex()])
    return found


def request_cancellation(connection: sa.Connection, batch_id: str, at: int) -> int:
    """Request the cancellation of all requests of a client's batch that have not ended, in one statement.

    Returns how many are newly affected.
    """
    row = requests.c
    cancelable = sa.select(row.id).where(among(connection, ids(connection, batch_id)), CANCELABLE)
    locked = (
        cancelable.order_by(row.id).with_for_update().cte("locked")
    )  # in the order in which all lock them
    canceled = sa.update(requests).where(row.id.in_(sa.select(locked.c.id)), CANCELABLE)
    return connection.execute(canceled.values(cancel_requested_at=at)).rowcount


def correct_counts(connection: sa.Connection, batch_id: str, at: int) -> None:
    """Count a batch's requests, and correct its counts: a worker of an earlier version has not moved them.

    Whoever ends some of them meanwhile waits until this transaction is over, and then moves the corrected counts.
    """
    client_batches.lock_row(connection, batch_id)
    row = requests.c
    outcomes: Counter[str | None] = Counter()
    all_ids = ids(connection, batch_id)
    for start in range(0, len(all_ids), PAGE_REQUESTS):
        page = among(connection, all_ids[start : start + PAGE_REQUESTS])
        outcome = sa.case((row.finished_at.is_not(None), row.outcome))
        each = sa.select(outcome, sa.func.count()).where(page).group_by(outcome)
        outcomes.update(dict(connection.execute(each).all()))
    processing = outcomes.pop(None, 0)
    known = {name: count for name, count in outcomes.items() if name is not None}
    if ended := counts.correct(connection, batch_id, processing, known, at):
        ended_batches.tell(connection, [ended], at)


@dataclass(slots=True)
class ResultsPlan:
    """Where the results of a client's batch are: by segment of answers, as each is read and unpacked but once.

    For 100,000 requests it takes some megabytes; the results themselves are read a few segments at a time.
    """

    positions: defaultdict[int, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("h")))
    custom_ids: defaultdict[int, bytearray] = field(
        default_factory=lambda: defaultdict(bytearray)
    )  # a line each

    @property
    def answer_ids(self) -> list[int]:
        """The segments of answers, in the order in which they were stored."""
        return sorted(self.positions)

    def add(self, answer_id: int, position: int, custom_id: str) -> None:
        """Add a request, with the place of its answer."""
        self.positions[answer_id].append(position)
        self.custom_ids[answer_id] += custom_id.encode() + b"\n"


def plan(connection: sa.Connection, batch_id: str) -> ResultsPlan:
    """Return where the results of a client's batch are; those of purged requests are not among them."""
    row = requests.c
    columns = sa.select(row.answer_id, row.answer_position, row.custom_id)
    ended = columns.where(
        row.finished_at.is_not(None), row.answer_id.is_not(None), row.custom_id.is_not(None)
    )
    all_ids = ids(connection, batch_id)
    found = ResultsPlan()
    for start in range(0, len(all_ids), PAGE_REQUESTS):
        page = ended.where(among(connection, all_ids[start : start + PAGE_REQUESTS]))
        for answer_id, position, custom_id in connection.execute(page):
            found.add(answer_id, position, custom_id)
    return found


def lines(connection: sa.Connection, plan: ResultsPlan, answer_ids: Sequence[int]) -> Iterator[bytes]:
    """Yield the lines of the results in these segments of answers, each as the API words it."""
    for answer_id, all_ in bodies(connection, answers, answer_ids):
        custom_ids = bytes(plan.custom_ids[answer_id]).splitlines()
        yield b"".join(
            [
                b'{"custom_id":"%b","result":%b}\n' % (custom_id, all_[position])
                for custom_id, position in zip(custom_ids, plan.positions[answer_id], strict=True)
                if all_[position]
            ]
        )
