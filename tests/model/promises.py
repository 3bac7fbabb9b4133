"""What must be true of the tables, the inbox and the simulator's ledger: at every step, and when all is at rest."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from typing import Any

import redis
import sqlalchemy as sa
from tests.fixtures.inbox import waiting_in
from tests.fixtures.queries import LEDGER, answer_bodies, params_bodies, readable
from tests.model.agents import MAX_ATTEMPTS, QUEUE_LIMIT
from tests.model.courier import Taken

from carpool.answers import PackedAnswer, unpack_answers
from carpool.contract import ENTRY_FIELD, INBOX, QUEUED, REPLIES, decode_entry, to_json
from carpool_worker.database import read
from carpool_worker.pipeline.inbox import packs, quarantine
from carpool_worker.policies.budgets import Budgets
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.states import DeliveryState
from carpool_worker.store.deliveries import coverage
from carpool_worker.store.deliveries.coverage import Covering
from carpool_worker.store.deliveries.receivers import destination
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.store.requests.rows import REAL_TIME, UNBATCHED
from carpool_worker.store.requests.segments import split

UNFINISHED = """
SELECT (SELECT count(*) FROM batches WHERE finished_at IS NULL)
    + (SELECT count(*) FROM requests WHERE finished_at IS NULL)
    + (SELECT count(*) FROM real_time_calls WHERE finished_at IS NULL)
    + (SELECT count(*) FROM deliveries WHERE state NOT IN ('delivered', 'discarded'))"""
MISCOUNTED = f"""
SELECT id, state, request_count,
    (SELECT count(*) FROM requests WHERE batch_id = batches.id AND finished_at IS NULL) + (
        SELECT count(*) FROM real_time_calls AS calls JOIN requests ON requests.id = request_id
        WHERE calls.batch_id = batches.id AND requests.batch_id = id_of('{REAL_TIME}')
    ) AS waiting
FROM batches WHERE state IN ('open', 'sealed', 'submitting', 'in_progress', 'canceling') AND waiting <> request_count"""
STORED = "SELECT requests.id FROM requests JOIN params ON params.id = segment_id"
HOMELESS = f"""
SELECT id FROM requests WHERE batch_id NOT IN (SELECT id FROM batches)
AND NOT (batch_id = id_of('{UNBATCHED}') AND attempt = 0)
AND NOT (batch_id = id_of('{REAL_TIME}') AND id IN (SELECT request_id FROM real_time_calls))"""
UNSETTLED = """
SELECT id FROM requests WHERE estimate IS NOT NULL AND finished_at IS NOT NULL
    OR held_at IS NOT NULL AND (estimate IS NULL OR state <> 'retryable' OR attempt <> 0)"""
MISPLACED = """
SELECT requests.id FROM requests JOIN segments ON segments.id = segment_id LEFT JOIN answers ON answers.id = answer_id
WHERE segments.client <> requests.client OR substr(segments.ids, 16 * position + 1, 16) <> requests.id
    OR answers.client <> requests.client OR substr(answers.ids, 16 * answer_position + 1, 16) <> requests.id"""
MISDELIVERED = """
SELECT one.answer_id, one.position, state, pending, delivered, progress
FROM deliveries AS one JOIN answers ON answers.id = answer_id
WHERE (state = 'delivered') <> (pending = 0)
    OR one.position >= 0 AND substr(ids, 16 * one.position + 1, 16) <> request_id
    OR one.position < 0 AND pending + delivered + (
        SELECT count(*) FROM deliveries AS own WHERE own.answer_id = one.answer_id AND own.position >= 0
    ) <> length(ids) / 16
    OR length(progress) - length(replace(progress, '-', '')) <> pending
    OR length(progress) - length(replace(progress, 'd', '')) <> delivered"""
TAKEN = """
SELECT (SELECT coalesce(sum(cost), 0) FROM {ledger} WHERE client = '{client}')
    + (SELECT coalesce(sum(estimate), 0) FROM requests WHERE client = '{client}' AND held_at IS NULL)"""
FINAL = """
SELECT id, state, attempt, outcome, CASE WHEN id IN (SELECT request_id FROM real_time_calls) THEN NULL ELSE cost END,
    finished_at, batch_id FROM requests WHERE finished_at IS NOT NULL
UNION ALL SELECT 'to ' || answer_id || ' ' || position, state, attempt, last_error, NULL,
    coalesce(delivered_at, discarded_at), target FROM deliveries WHERE state IN ('delivered', 'discarded')"""
ENDS = """
SELECT requests.id, requests.state, attempt, callback, coalesce(batches.state = 'rejected', false) AS rejected,
    requests.cost IS NOT NULL AS paid
FROM requests JOIN segments ON segments.id = segment_id LEFT JOIN batches ON batches.id = batch_id"""
AMOUNTS = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens", "cost", "list_price")
SUMS = ", ".join(f"coalesce(sum({amount}), 0)" for amount in AMOUNTS)
SPENT = f"""
SELECT requests.client, model, count(*), {SUMS} FROM requests JOIN segments ON segments.id = segment_id
WHERE cost IS NOT NULL GROUP BY requests.client, model ORDER BY requests.client, model"""
USED = (
    f"SELECT client, model, sum(requests), {SUMS} FROM {LEDGER} GROUP BY client, model ORDER BY client, model"
)
BATCH_SUMS = """
SELECT coalesce(sum(succeeded), 0), coalesce(sum(cost), 0), coalesce(sum(list_price), 0),
    coalesce(sum(succeeded + errored + canceled + expired <> request_count), 0)
FROM batches WHERE state = 'completed'"""
REQUEST_SUMS = """
SELECT count(*), coalesce(sum(cost), 0), coalesce(sum(list_price), 0), 0 FROM requests WHERE cost IS NOT NULL"""


QUOTE = b"An answer to: "


class Books:
    """The tables, the inbox and the ledger of one example."""

    def __init__(self, engine: sa.Engine, server: redis.Redis, simulator: RemoteSimulator) -> None:
        self._engine = engine
        self._server = server
        self._simulator = simulator
        self._final: dict[str, Any] = {}
        self.asked: defaultdict[str, set[str]] = defaultdict(set)
        """The text of each accepted request, by its id; several if its key came with several."""

    def rows(self, query: str) -> list[Any]:
        with read(self._engine) as connection:
            return [tuple(map(readable, row)) for row in connection.execute(sa.text(query))]

    @property
    def at_rest(self) -> bool:
        return self.rows(UNFINISHED) == [(0,)] and self._server.xlen(INBOX) == 0

    def assert_all_is_at_rest(self) -> None:
        assert self.at_rest, self.rows("SELECT id, state, request_count, last_error FROM batches")

    def assert_nothing_accepted_is_lost(self, accepted: Mapping[str, Any]) -> None:
        inbox = self._inbox()
        stored = {request_id for (request_id,) in self.rows(STORED)}
        assert stored | set(inbox) == set(accepted)
        assert int(self._server.get(QUEUED) or 0) == len(inbox)

    def assert_no_conflict_is_dropped(self) -> None:
        """Of the requests that one key came with, one stands; each other one is in the quarantine, or still to come."""
        asked = {(id_, text) for id_, texts in self.asked.items() if len(texts) > 1 for text in texts}
        if not asked:
            return
        stored = {(id_, _text(params)) for id_, params in params_bodies(self._engine).items()}
        waiting = {(one.id, _text(one.params)) for one in waiting_in(self._server)}
        kept = [pack for entry in quarantine.entries(self._server) for pack in packs.read(entry.fields)]
        apart = {(one.id, _text(one.params)) for pack in kept for one in pack.envelopes}
        assert asked <= stored | waiting | apart
        assert apart <= asked - stored

    def assert_the_tables_are_sound(self) -> None:
        assert self.rows(MISCOUNTED) == []
        assert self.rows(HOMELESS) == []
        assert self.rows(UNSETTLED) == []
        assert self.rows(MISPLACED) == []
        assert self.rows(MISDELIVERED) == []

    def assert_the_queue_is_short(self, counts: Iterable[int]) -> None:
        """`counts` holds the requests of each batch that waits at Anthropic."""
        assert sum(counts) <= QUEUE_LIMIT

    def assert_no_budget_is_overdrawn(self, budgets: Budgets) -> None:
        """Answers of the simulator never cost more than they were estimated at."""
        for client, budget in budgets.items():
            [(taken,)] = self.rows(TAKEN.format(client=client, ledger=LEDGER))
            assert taken <= budget.limits["day"]

    def assert_what_is_final_stays(self) -> None:
        final = {row[0]: row for row in self.rows(FINAL)}
        assert {key: final.get(key) for key in self._final} == self._final
        self._final = final

    def assert_each_request_ended_as_it_must(self, accepted: Mapping[str, str], unwanted: Set[str]) -> None:
        """`accepted` holds the state in which each request ends unless its batch is rejected, or nobody wants it."""
        for request_id, state, attempt, _, rejected, _ in self.rows(ENDS):
            ends = {"discarded" if rejected else accepted[request_id]}
            assert state in (ends | {"canceled"} if request_id in unwanted else ends)
            assert (state != "canceled") <= attempt <= MAX_ATTEMPTS
        assert int(self._server.get(QUEUED) or 0) == self._server.xlen(INBOX) == 0

    def assert_nothing_is_paid_for_twice(self) -> None:
        ends = {row[0]: row for row in self.rows(ENDS)}
        ours = [entry for entry in self._simulator.ledger_entries() if entry["custom_id"] in ends]
        runs = Counter(entry["custom_id"] for entry in ours)
        billed = Counter(entry["custom_id"] for entry in ours if entry["outcome"] == "succeeded")
        assert billed == Counter(key for key, *_, paid in ends.values() if paid)
        assert {key for key, state, *_ in ends.values() if state == "completed"} <= set(billed)
        # Nor run for nothing: a batch for each attempt; the last one, where it was rejected, ran nothing.
        for key, state, attempt, _, rejected, paid in ends.values():
            fewest = attempt - (state == "canceled" and not paid) - rejected
            assert max(fewest, 0) <= runs[key] <= attempt - rejected

    def assert_the_books_balance(self) -> None:
        assert self.rows(USED) == self.rows(SPENT)
        assert self.rows(BATCH_SUMS) == self.rows(REQUEST_SUMS)
        self.assert_each_answer_is_its_requests_own()

    def assert_each_answer_is_its_requests_own(self) -> None:
        """The simulator's answer quotes what it was asked."""
        bodies, sent = answer_bodies(self._engine), params_bodies(self._engine)
        assert (
            bodies.keys()
            == sent.keys()
            == {request_id for (request_id,) in self.rows("SELECT id FROM requests")}
        )
        for request_id, body in bodies.items():
            asked = _text(sent[request_id])
            assert asked in self.asked[request_id]
            assert QUOTE not in body or body.count(QUOTE + f'{asked}"'.encode()) == 1

    def assert_each_callback_has_its_delivery(self) -> None:
        called_back = [row[0] for row in self.rows(ENDS) if row[3] is not None]
        assert sorted(one.request_id for one in self._owed()) == sorted(called_back)

    def assert_what_is_delivered_was_taken(self, taken: Taken) -> None:
        delivered = {one.request_id for one in self._owed() if one.state is DeliveryState.DELIVERED}
        assert delivered <= set(taken)

    def assert_each_receiver_got_its_own(self, taken: Taken) -> None:
        """And always the same, however often."""
        callbacks = {row[0]: row[3] for row in self.rows(ENDS)}
        with read(self._engine) as connection:
            answers = load_answers(connection, list(taken))
        for id_, got in taken.items():
            own = destination(callbacks[id_]).target, self.lasting(to_json(answers[id_]))
            assert all((target, self.lasting(answer)) == own for target, answer in got)

    def assert_what_is_pushed_is_final(self) -> None:
        """And it is pushed once: who commits it pushes it."""
        pushed = [one.id for one in self._pushed()]
        assert len(pushed) == len(set(pushed))
        assert set(pushed) <= {row[0] for row in self.rows(FINAL)}

    def assert_each_reply_is_its_requests_own(self) -> None:
        pushed = {one.id: self.lasting(to_json(one.answer())) for one in self._pushed()}
        with read(self._engine) as connection:
            answers = load_answers(connection, list(pushed))
        assert pushed == {id_: self.lasting(to_json(answer)) for id_, answer in answers.items()}

    def lasting(self, answer: bytes) -> dict[str, Any]:
        """Return what never changes: the batch of a request that was canceled before it was sent may be sent later."""
        read: dict[str, Any] = json.loads(answer)
        return read | {"batch_id": None} if read["state"] == "canceled" else read

    def _owed(self) -> list[Covering]:
        ids = [request_id for (request_id,) in self.rows("SELECT id FROM requests")]
        with read(self._engine) as connection:
            return coverage.of_requests(connection, ids)

    def _pushed(self) -> list[PackedAnswer]:
        names: Any = self._server.keys(f"{REPLIES}*")
        items: list[Any] = [item for name in names for item in self._server.lrange(name, 0, -1)]
        return [answer for item in items for answer in unpack_answers(item)]

    def _inbox(self) -> list[str]:
        entries: Any = self._server.xrange(INBOX)
        packed = [fields[ENTRY_FIELD] for _, fields in entries if ENTRY_FIELD in fields]
        return [request_id for one in packed for request_id in split(decode_entry(one).ids)]


def _text(params: bytes) -> str:
    text: str = json.loads(params)["messages"][0]["content"]
    return text
