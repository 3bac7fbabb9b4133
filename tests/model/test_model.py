"""A model of the promises: any agents in any order, crashes and faults at any point, and at rest all is as it must be.

CARPOOL_MODEL_EXAMPLES sets how many histories are tried; then each run tries others.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.fixtures.agents import request
from tests.model.agents import AGENTS, MISHAPS, RIVALS, ROUND, Agents, Interruption
from tests.model.courier import Courier
from tests.model.promises import Books
from tests.model.world import FATES, FAULTS, Wanted, World, world

from carpool import Producer, Request
from carpool.contract import ENTRY_FIELD, INBOX, QUEUED, decode_entry
from carpool.idempotency import CLAIMS, OLDER_CLAIMS
from carpool.keywords import DEADLINE_POLICIES
from carpool_worker.database import write
from carpool_worker.policies.budgets import Budget
from carpool_worker.simulator import Fault
from carpool_worker.store.batches import lane_pauses

__all__ = ["world"]

EXAMPLES = os.environ.get("CARPOOL_MODEL_EXAMPLES")
PROFILE = settings(
    max_examples=int(EXAMPLES or 12),
    stateful_step_count=20,
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ROUNDS = 40
"""Rounds, each with hours in between, after which everything accepted has come to its end."""

CLIENTS = ("billing", "search")
LITTLE = Budget(day=Decimal("0.001"))
"""The second client's budget: enough for some five requests, until at the end it has none and all may go."""

lanes, callbacks = st.sampled_from([0, 0, 1, 2]), st.integers(0, 2)
fates, keyed_fates = st.sampled_from(list(FATES)), st.sampled_from(["fine", "flaky"])
policies = st.none() | st.sampled_from(DEADLINE_POLICIES)
# A field that isn't given gets any value. Those that Anthropic is to cancel must have no deadline: a call can't be
# canceled there, and is made again until its deadline has passed.
wanted = st.builds(Wanted, fates, lanes, callbacks, st.just(False), st.just(False), st.none()) | st.builds(
    Wanted, keyed_fates, st.just(0), st.just(1), st.just(True), st.booleans(), policies
)
mishaps = st.builds(Interruption, st.integers(0, 8), st.sampled_from(list(MISHAPS)), st.integers(0, 9))
rivals = st.builds(Interruption, st.integers(0, 20), st.sampled_from(RIVALS), st.none() | st.integers(0, 4))


def _requests(fields: dict[bytes, bytes]) -> int:
    return len(decode_entry(fields[ENTRY_FIELD]).enqueued_at) if ENTRY_FIELD in fields else 0


class Promises(RuleBasedStateMachine):
    """Clients, agents, Anthropic, time and mishaps."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        number = next(world.numbers)
        self.server = redis.Redis.from_url(world.redis_url)
        self.server.flushdb()
        self.engine = world.new_engine()
        self.agents = Agents(
            self.engine, self.server, world.claude, world.fuse, Courier(self.engine, world.fuse)
        )
        self.books = Books(self.engine, self.server, world.simulator)
        clients = [f"{client}-{os.getpid()}-{number}" for client in CLIENTS]
        self.producers = [Producer(world.redis_url, client=client) for client in clients]
        self.agents.budgets = {clients[1]: LITTLE}
        world.claude.listed = list(world.made())
        self.earlier = len(world.claude.listed)
        self.accepted: dict[str, str] = {}
        self.owned: tuple[set[str], ...] = tuple(set() for _ in CLIENTS)
        self.unwanted: set[str] = set()
        self.strangers: list[str] = []
        self.keys: dict[tuple[int, Wanted], str] = {}

    @initialize(
        wanted=st.lists(wanted, min_size=3, max_size=10),
        faults=st.lists(st.sampled_from(FAULTS)),
        list_lags=st.booleans(),
    )
    def begin(self, wanted: list[Wanted], faults: list[Fault], list_lags: bool) -> None:
        self.world.claude.list_lags = list_lags
        self.enqueue(0, wanted)
        self.something_will_go_wrong(faults)

    @rule(client=st.integers(0, 1), wanted=st.lists(wanted, min_size=1, max_size=5))
    def enqueue(self, client: int, wanted: list[Wanted]) -> None:
        requests = [one.request(next(self.world.numbers)) for one in wanted]
        ids = self._enqueued(client, requests)
        for one, asked, request_id in zip(wanted, requests, ids, strict=True):
            self.books.asked[request_id].add(asked.params["messages"][0]["content"])
            if one.keyed:
                key = client, one._replace(other=False)
                assert self.keys.setdefault(key, request_id) == request_id
            else:
                assert request_id not in self.accepted
            self.accepted[request_id] = FATES[one.fate]
            self.owned[client].add(request_id)

    def _enqueued(self, client: int, requests: list[Request]) -> list[str]:
        # As if Redis had forgotten who used which key: what is refused at the door never gets to the aggregator.
        keyed = any(one.idempotency_key for one in requests)
        ids: list[str] = []
        for some in [[one] for one in requests] if keyed else [requests]:
            self.server.delete(CLAIMS, OLDER_CLAIMS)
            ids += self.producers[client].enqueue_many(some, reply=client == 0)
        return ids

    @rule(agent=st.sampled_from(list(AGENTS)), interruption=st.none() | mishaps | rivals)
    def one_agent_runs(self, agent: str, interruption: Interruption | None) -> None:
        self.agents.run([agent], interruption)

    @rule(ended=st.booleans(), mishap=mishaps)
    def all_agents_run_and_have_mishaps(self, ended: bool, mishap: Interruption) -> None:
        self.go_round(ended, mishap)

    @rule(ended=st.booleans(), rival=rivals)
    def all_agents_run_among_rivals(self, ended: bool, rival: Interruption) -> None:
        self.go_round(ended, rival)

    @rule()
    def hours_pass(self) -> None:
        self.agents.hours_pass()
        self.world.claude.listed = list(self.world.made())

    @rule(newest_alone=st.booleans())
    def anthropic_ends(self, newest_alone: bool) -> None:
        self.world.claude.ended.update(self._made()[-1:] if newest_alone else self._made())

    @rule()
    def somebody_cancels_at_the_console(self) -> None:
        self.world.claude.canceling.update(self._made())

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def something_will_go_wrong(self, faults: list[Fault]) -> None:
        self.world.simulator.arm(*faults)

    @rule(count=st.integers(1, 4))
    def another_program_posts_a_batch(self, count: int) -> None:
        names = [f"stranger-{next(self.world.numbers)}" for _ in range(count)]
        items = [{"custom_id": name, "params": request()} for name in names]
        body = json.dumps({"requests": items}).encode()
        with self.world.without_faults():
            self.strangers.append(self.world.claude.create_for_another(io.BytesIO(body), len(body)).id)

    @rule()
    def another_program_deletes_its_batches(self) -> None:
        gone = [one for one in self.strangers if one not in self.world.deleted and one in self._made()]
        with self.world.without_faults():
            for one in gone:
                self.world.claude.delete_for_another(one)
        self.world.deleted.update(gone)

    @rule(client=st.integers(0, 1), share=st.integers(1, 3))
    def a_client_cancels(self, client: int, share: int) -> None:
        ids = list(self.owned[client])[::share]
        self.unwanted.update(ids)
        if share == 1:
            self.producers[client].cancel_all()
        elif ids:
            self.producers[client].cancel(*ids)

    @rule()
    def an_entry_is_appended_twice(self) -> None:
        entries: Any = self.server.xrange(INBOX, count=1)
        for _, fields in entries:
            self.server.xadd(INBOX, fields)
            self.server.incrby(QUEUED, _requests(fields))

    @invariant()
    def nothing_is_lost_or_changed_afterwards(self) -> None:
        self.books.assert_nothing_accepted_is_lost(self.accepted)
        self.books.assert_no_conflict_is_dropped()
        self.books.assert_what_is_pushed_is_final()
        self.books.assert_what_is_delivered_was_taken(self.agents.courier.taken)
        self.books.assert_the_tables_are_sound()
        self.books.assert_what_is_final_stays()
        self.books.assert_no_budget_is_overdrawn(self.agents.budgets)
        waiting = set(self._made()) - self.world.claude.ended - set(self.strangers)
        self.books.assert_the_queue_is_short(self.world.counts[one] for one in waiting)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.close()

    def come_to_rest(self) -> None:
        self.agents.budgets = {}
        for _ in range(ROUNDS):
            if self.books.at_rest:
                break
            self._an_operator_resumes_lanes()
            self.go_round(ended=True, interruption=None)
            self.nothing_is_lost_or_changed_afterwards()
        self.books.assert_all_is_at_rest()
        self.books.assert_each_request_ended_as_it_must(self.accepted, self.unwanted)
        self.books.assert_nothing_is_paid_for_twice()
        self.books.assert_the_books_balance()
        self.books.assert_each_callback_has_its_delivery()
        self.books.assert_each_receiver_got_its_own(self.agents.courier.taken)
        self.books.assert_each_reply_is_its_requests_own()

    def _an_operator_resumes_lanes(self) -> None:
        """Those of batches that were canceled at the console: nobody else does."""
        paused = self.books.rows("SELECT lane FROM lane_pauses WHERE by_operator")
        with write(self.engine) as connection:
            for (lane,) in paused:
                lane_pauses.resume(connection, lane)

    def go_round(self, ended: bool, interruption: Interruption | None, agents: Sequence[str] = ROUND) -> None:
        self.hours_pass()
        if ended:
            self.world.claude.ended.update(self.world.claude.listed)
        self.agents.run(agents, interruption)

    def _made(self) -> list[str]:
        return self.world.made()[self.earlier :]

    def close(self) -> None:
        self.world.simulator.disarm()
        for producer in self.producers:
            producer.close()
        self.server.close()
        self.engine.dispose()


def test_whatever_happens_nothing_accepted_is_lost_and_nothing_is_paid_for_twice(world: World) -> None:
    def history() -> Promises:
        return Promises(world)

    run_state_machine_as_test(history, settings=PROFILE)  # type: ignore[arg-type]
