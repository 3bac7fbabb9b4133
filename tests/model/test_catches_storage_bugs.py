"""The model sees bugs put in on purpose into what is stored and sent by segments: orders of commits, and positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from tests.model import attacks
from tests.model.bugs import Bug, Patch, assert_the_model_sees
from tests.model.world import World, world

from carpool.contract import Envelope, PackedAnswers
from carpool.segments import pack, unpack
from carpool_worker.claude import results
from carpool_worker.claude.client import Claude
from carpool_worker.database import write
from carpool_worker.models import Batch
from carpool_worker.pipeline.batching import aggregator
from carpool_worker.pipeline.batching.lanes import Filled
from carpool_worker.pipeline.collection import collector, replies
from carpool_worker.pipeline.collection.replies import packed
from carpool_worker.pipeline.delivery.in_flight import InFlight, OpenClaim
from carpool_worker.pipeline.inbox.chunks import Chunk
from carpool_worker.pipeline.inbox.packs import Pack
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.policies.deliveries import Event, Sent
from carpool_worker.states import DELIVER
from carpool_worker.store import bulk
from carpool_worker.store.deliveries import outcomes
from carpool_worker.store.deliveries.outcomes import MADE, ClaimOutcome
from carpool_worker.store.requests import endings, segments, sendable
from carpool_worker.store.requests import rows as requests
from carpool_worker.store.requests.endings import Ending
from carpool_worker.store.requests.segments import AnswersSegment

__all__ = ["world"]


def rotated(bodies: Sequence[bytes]) -> list[bytes]:
    """Each body where the one before it should be."""
    return [*bodies[1:], *bodies[:1]]


def commit_params_after_their_requests(patch: Patch) -> None:
    insert, pool = bulk.insert_rows, aggregator.pool
    late: list[Any] = []

    def insert_but_params(connection: sa.Connection, table: str, *rest: Any) -> None:
        if table == "params":
            late.append((table, *rest))
        else:
            insert(connection, table, *rest)

    def pool_then_insert(engine: sa.Engine, *arguments: Any) -> Filled:
        late.clear()  # what a crash kept from being inserted died with its process
        filled = pool(engine, *arguments)
        with write(engine) as connection:
            while late:
                insert(connection, *late.pop())
        return filled

    patch.setattr(segments, "insert_rows", insert_but_params)
    patch.setattr(aggregator, "pool", pool_then_insert)


def store_params_at_their_neighbours_position(patch: Patch) -> None:
    patch.setattr(Pack, "packed", lambda self: pack(rotated([one.params for one in self.envelopes])))


def store_answers_at_their_neighbours_position(patch: Patch) -> None:
    packed_answers = segments.packed_answers

    def misplaced(client: str, results: Sequence[tuple[str, bytes]]) -> Iterator[AnswersSegment]:
        for one in packed_answers(client, results):
            yield one._replace(body=pack(rotated(unpack(one.body))))

    patch.setattr(segments, "packed_answers", misplaced)
    patch.setattr(results, "CHUNK_LINES", 5)  # so that a segment has several, in whatever order they come


def store_answers_for_several_callbacks_together(patch: Patch) -> None:
    insert = endings._insert_answers

    def insert_together(connection: sa.Connection, ended: Sequence[Ending], at: int) -> list[AnswersSegment]:
        callbacks = {one.client: one.callback for one in ended if one.callback}
        alike = [one._replace(callback=one.callback and callbacks[one.client]) for one in ended]
        return insert(connection, alike, at)

    patch.setattr(endings, "_insert_answers", insert_together)
    patch.setattr(results, "CHUNK_LINES", 5)  # so that a segment has several, in whatever order they come


def store_answers_of_several_clients_together(patch: Patch) -> None:
    insert = endings._insert_answers

    def insert_together(connection: sa.Connection, ended: Sequence[Ending], at: int) -> list[AnswersSegment]:
        return insert(connection, [one._replace(client=ended[0].client) for one in ended], at)

    patch.setattr(endings, "_insert_answers", insert_together)
    patch.setattr(results, "CHUNK_LINES", 5)  # so that a segment has several, in whatever order they come


def send_the_neighbours_answer(patch: Patch) -> None:
    bodies = segments.bodies

    def misread(*arguments: Any) -> Iterator[tuple[int, list[bytes]]]:
        for segment_id, all_ in bodies(*arguments):
            yield segment_id, rotated(all_)

    patch.setattr(sendable, "bodies", misread)
    patch.setattr(results, "CHUNK_LINES", 5)  # so that a segment has several, in whatever order they come


def push_the_neighbours_answer(patch: Patch) -> None:
    def misread(segment: AnswersSegment, *rest: Any) -> PackedAnswers:
        return pack_one(segment._replace(body=pack(rotated(unpack(segment.body)))), *rest)

    pack_one = replies._packed
    patch.setattr(replies, "_packed", misread)
    patch.setattr(results, "CHUNK_LINES", 5)  # so that a segment has several, in whatever order they come


def drop_conflicts(patch: Patch) -> None:
    patch.setattr(Inbox, "quarantine", lambda *_: None)


def take_a_conflict_for_the_same_request(patch: Patch) -> None:
    new = aggregator._new
    patch.setattr(aggregator, "_new", lambda *arguments: (new(*arguments)[0], []))


def quarantine_conflicts_after_the_acknowledgement(patch: Patch) -> None:
    quarantine, acknowledge = Inbox.quarantine, Inbox.acknowledge
    late: list[Sequence[Envelope]] = []

    def quarantine_later(self: Inbox, conflicting: Sequence[Envelope]) -> None:
        late[:] = [conflicting]

    def acknowledge_first(self: Inbox, chunk: Chunk) -> None:
        acknowledge(self, chunk)
        quarantine(self, late.pop())

    patch.setattr(Inbox, "quarantine", quarantine_later)
    patch.setattr(Inbox, "acknowledge", acknowledge_first)


def acknowledge_after_a_rollback(patch: Patch) -> None:
    pool = aggregator.pool

    def pool_or_not(*arguments: Any) -> Filled:
        try:
            return pool(*arguments)
        except sa.exc.OperationalError:
            return Filled()

    patch.setattr(aggregator, "pool", pool_or_not)


def take_a_segment_for_made_when_one_was_taken(patch: Patch) -> None:
    patch.setattr(results, "CHUNK_LINES", 5)  # so that a segment has several, in whatever order they come
    row = outcomes._row

    def all_made(claimed: Any, transition: Any, letters: bytearray, *rest: Any) -> ClaimOutcome:
        if MADE not in letters:
            return row(claimed, transition, letters, *rest)
        return row(claimed, DELIVER, bytearray([MADE]) * len(letters), (), ())

    patch.setattr(outcomes, "_row", all_made)


def record_a_delivery_at_the_first_position(patch: Patch) -> None:
    patch.setattr(results, "CHUNK_LINES", 5)  # so that a segment has several, in whatever order they come
    settle = InFlight.settle

    def misplaced(self: InFlight, claim: OpenClaim, id_: str, position: int, sent: Sent) -> None:
        is_made = sent.event is Event.ACCEPTED and not claim.claimed.is_own
        settle(self, claim, id_, 0 if is_made else position, sent)

    patch.setattr(InFlight, "settle", misplaced)


def push_before_the_commit(patch: Patch) -> None:
    collect_results, finish = collector._collect_results, endings.finish

    def collect(
        engine: sa.Engine, claude: Claude, batch: Batch, policy: Any, announce: collector.Announce
    ) -> bool:
        def finish_and_push(
            connection: sa.Connection, ended: Sequence[Ending], at: Any, *rest: Any
        ) -> list[AnswersSegment]:
            waiting = requests.pending(connection, batch.id, [one.id for one in ended])
            stored = finish(connection, ended, at, *rest)
            announce([], packed(stored, ended, waiting, batch.claude_id, at))
            return stored

        with pytest.MonkeyPatch.context() as here:
            here.setattr(endings, "finish", finish_and_push)
            return collect_results(engine, claude, batch, policy, lambda ids, _: announce(ids, {}))

    patch.setattr(collector, "_collect_results", collect)


BUGS = {
    "params committed after their requests": Bug(
        commit_params_after_their_requests,
        partial(attacks.crash_on_the_way_out, first=5),
        "assert_nothing_accepted_is_lost",
    ),
    "params stored where the neighbour's should be": Bug(
        store_params_at_their_neighbours_position,
        attacks.go_undisturbed,
        "assert_each_request_ended_as_it_must",
    ),
    "answers stored where the neighbour's should be": Bug(
        store_answers_at_their_neighbours_position,
        attacks.go_undisturbed,
        "assert_each_answer_is_its_requests_own",
    ),
    "answers for several callbacks stored together": Bug(
        store_answers_for_several_callbacks_together,
        attacks.share_batches,
        "assert_each_receiver_got_its_own",
    ),
    "answers of several clients stored together": Bug(
        store_answers_of_several_clients_together, attacks.share_batches, "assert_the_tables_are_sound"
    ),
    "the neighbour's answer sent": Bug(
        send_the_neighbours_answer, attacks.go_undisturbed, "assert_each_receiver_got_its_own"
    ),
    "the neighbour's answer pushed": Bug(
        push_the_neighbours_answer, attacks.go_undisturbed, "assert_each_reply_is_its_requests_own"
    ),
    "a request whose key came before with other params dropped": Bug(
        drop_conflicts, attacks.use_keys_again, "assert_no_conflict_is_dropped"
    ),
    "a request taken for the one whose key it has": Bug(
        take_a_conflict_for_the_same_request, attacks.use_keys_again, "assert_no_conflict_is_dropped"
    ),
    "conflicts quarantined only after they were acknowledged": Bug(
        quarantine_conflicts_after_the_acknowledgement,
        partial(attacks.use_keys_again, first=9),
        "assert_no_conflict_is_dropped",
    ),
    "entries acknowledged after a rollback": Bug(
        acknowledge_after_a_rollback, attacks.suffer_refusals, "assert_nothing_accepted_is_lost"
    ),
    "a segment taken for delivered when one of its answers was": Bug(
        take_a_segment_for_made_when_one_was_taken,
        attacks.deliver_in_parts,
        "assert_what_is_delivered_was_taken",
    ),
    "a delivery recorded at another's position": Bug(
        record_a_delivery_at_the_first_position,
        attacks.deliver_in_parts,
        "assert_the_tables_are_sound",
    ),
    "replies pushed before the commit": Bug(
        push_before_the_commit,
        partial(attacks.crash_on_the_way_back, first=12),
        "assert_what_is_pushed_is_final",
    ),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_the_model_sees(world: World, monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    assert_the_model_sees(bug, world, monkeypatch)
