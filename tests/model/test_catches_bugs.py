"""The model is worth its name: with a bug put in on purpose, one of its attacks ends in the broken promise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from tests.model import attacks
from tests.model.bugs import Bug, Patch, assert_the_model_sees
from tests.model.world import World, world

from carpool_worker.claude import results, translation
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.database import write
from carpool_worker.models import tables
from carpool_worker.pipeline.collection import collector
from carpool_worker.pipeline.inbox.chunks import Chunk
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import look, submitter
from carpool_worker.policies.in_doubt import DoubtPolicy
from carpool_worker.simulator import Fault
from carpool_worker.store.batches import filling
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.requests import endings, segments
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.rows import Pending
from carpool_worker.store.requests.segments import AnswersSegment

__all__ = ["world"]


def acknowledge_before_the_commit(patch: Patch) -> None:
    chunks = Inbox.chunks

    def acknowledged(self: Inbox) -> Iterator[Chunk]:
        for chunk in chunks(self):
            self.acknowledge(chunk)
            yield chunk

    patch.setattr(Inbox, "chunks", acknowledged)


def commit_the_intent_after_the_post(patch: Patch) -> None:
    intend, accept = submitter._intend, submitter.accept
    intents: list[tuple[Any, ...]] = []

    def intend_later(*arguments: Any) -> bool:
        intents.append(arguments)
        return True

    def accept_now(engine: sa.Engine, batch_id: str, remote: RemoteBatch) -> Any:
        intend(*intents.pop())
        return accept(engine, batch_id, remote)

    patch.setattr(submitter, "_is_ours", lambda *_: True)  # the fence would let nothing pass
    patch.setattr(look, "_lost", lambda *_: None)  # the look would find what the first post has made
    patch.setattr(submitter, "_intend", intend_later)
    patch.setattr(submitter, "accept", accept_now)


def send_again_at_once(patch: Patch) -> None:
    look_away(patch)
    patch.setattr(submitter, "_is_ours", lambda *_: True)
    patch.setattr(DoubtPolicy, "search_seconds", lambda *_: 0.0)


def look_away(patch: Patch) -> None:
    """Do without the look before a second post, which would find out that the first has made a batch."""
    patch.setattr(look, "suspects", lambda *_: [])


def take_a_timeout_for_a_refusal(patch: Patch) -> None:
    look_away(patch)
    patch.setattr(translation, "CERTAIN_STATUSES", translation.CERTAIN_STATUSES | {504})


def adopt_the_first_candidate_unseen(patch: Patch) -> None:
    patch.setattr(collector, "_is_anothers", lambda *_: False)
    patch.setattr(
        collector, "_count_missing", lambda *_: 0
    )  # a stranger's results would be read again and again


def collect_what_was_collected(patch: Patch) -> None:
    def pending(connection: sa.Connection, batch_id: str, ids: Sequence[str]) -> dict[str, Pending]:
        row = tables.requests.c
        names = ("id", "attempt", "enqueued_at", "metadata", "cancel_requested_at", "estimate", "segment_id")
        found = connection.execute(sa.select(*(row[name] for name in names)).where(row.batch_id == batch_id))
        rows = [one for one in found if one.id in ids]
        shared = segments.terms(connection, {one.segment_id for one in rows})
        return {one.id: Pending._make((*one[:-1], shared[one.segment_id], None, None)) for one in rows}

    finish = endings.finish

    def finish_once(
        connection: sa.Connection, finished: Sequence[Ending], at: int, batch_id: str | None = None
    ) -> list[AnswersSegment]:
        if batch_id is not None:
            waiting = requests.pending_ids(connection, batch_id, 1_000)
            finished = [one for one in finished if one.id in waiting]
        return finish(connection, finished, at, batch_id)

    patch.setattr(requests, "pending", pending)
    patch.setattr(endings, "finish", finish_once)


def make_the_delivery_in_a_transaction_of_its_own(patch: Patch) -> None:
    commit, insert = collector._commit, deliveries.insert
    late: list[Any] = []

    def commit_then_insert(engine: sa.Engine, *arguments: Any) -> Any:
        late.clear()  # what a crash kept from being inserted died with its process
        finished = commit(engine, *arguments)
        with write(engine) as connection:
            while late:
                insert(connection, *late.pop())
        return finished

    patch.setattr(deliveries, "insert", lambda _, *arguments: late.append(arguments))
    patch.setattr(collector, "_commit", commit_then_insert)


def take_cut_results_for_whole(patch: Patch) -> None:
    chunks = results.in_chunks

    def uncut(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
        with suppress(Exception):
            yield from chunks(lines)

    patch.setattr(collector, "in_chunks", uncut)
    patch.setattr(collector, "_count_missing", lambda *_: 0)


def leave_the_batch_as_large_as_it_was(patch: Patch) -> None:
    patch.setattr(filling, "remove_requests", lambda *_: 1)


def forget_what_a_dropped_answer_cost(patch: Patch) -> None:
    dropped = Ending.dropped
    nothing: dict[str, Any] = {
        name: None for name in Ending._fields if name.endswith(("tokens", "cost", "price"))
    }
    patch.setattr(Ending, "dropped", lambda one: dropped(one)._replace(**nothing))


BUGS = {
    "entries acknowledged before their requests are committed": Bug(
        acknowledge_before_the_commit, attacks.crash_on_the_way_out, "assert_nothing_accepted_is_lost"
    ),
    "an intent committed only after the post": Bug(
        commit_the_intent_after_the_post,
        partial(attacks.crash_on_the_way_out, first=14),
        "assert_nothing_is_paid_for_twice",
    ),
    "a rescuer that sends again at once": Bug(
        send_again_at_once, attacks.meet_rivals, "assert_nothing_is_paid_for_twice"
    ),
    "a timeout taken for a refusal": Bug(
        take_a_timeout_for_a_refusal,
        partial(attacks.suffer_faults, faults=[Fault(operation="create", kind="error_after", status=504)]),
        "assert_nothing_is_paid_for_twice",
    ),
    "a stranger's batch taken for ours": Bug(
        adopt_the_first_candidate_unseen, attacks.meet_strangers, "assert_each_request_ended_as_it_must"
    ),
    "answers that are counted again when results are read again": Bug(
        collect_what_was_collected,
        partial(attacks.crash_on_the_way_back, first=10),
        "assert_the_books_balance",
    ),
    "a cancellation that leaves the batch's count as it was": Bug(
        leave_the_batch_as_large_as_it_was, attacks.cancel_midway, "assert_the_tables_are_sound"
    ),
    "a canceled request whose answer was paid for but not counted": Bug(
        forget_what_a_dropped_answer_cost, attacks.cancel_midway, "assert_nothing_is_paid_for_twice"
    ),
    "a delivery made in a transaction of its own": Bug(
        make_the_delivery_in_a_transaction_of_its_own,
        partial(attacks.crash_on_the_way_back, first=10),
        "assert_each_callback_has_its_delivery",
        guarded=False,
    ),
    "results that were cut taken for whole": Bug(
        take_cut_results_for_whole,
        partial(attacks.suffer_faults, faults=[Fault(operation="results", kind="truncated")]),
        "assert_each_request_ended_as_it_must",
    ),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_the_model_sees(world: World, monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    assert_the_model_sees(bug, world, monkeypatch)


@pytest.mark.parametrize("bug", [bug for bug in BUGS.values() if not bug.guarded])
def test_the_database_refuses(world: World, monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    bug.put_in(monkeypatch)

    with pytest.raises(sa.exc.IntegrityError):
        bug.attack(world)
