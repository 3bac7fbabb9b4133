"""The model with deadlines: any calls by any callers among all else, and none is made twice or lost in silence."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import rule, run_state_machine_as_test
from tests.model.agents import CRASH, ROUND, Interruption
from tests.model.call_promises import CallBooks
from tests.model.calling import CALLS, CallingAgents, OneByOne
from tests.model.courier import Courier
from tests.model.test_model import EXAMPLES, PROFILE, Promises, mishaps, rivals
from tests.model.world import Wanted, World, world

from carpool.keywords import DEADLINE_POLICIES
from carpool_worker.exceptions import ClaudeError
from carpool_worker.pipeline.batching import deadlines
from carpool_worker.pipeline.submission import call_outcomes, call_rescuer, fallback
from carpool_worker.policies.real_time import AfterCall, after_call
from carpool_worker.simulator import Fault

__all__ = ["world"]

FATES = ("fine", "flaky", "late", "wrong", "hopeless", "refusing")
FAULTS = (
    *(Fault(operation="messages", kind=kind) for kind in ("lost", "lost", "dropped", "truncated", "page")),
    *(Fault(operation="messages", kind="error", status=status) for status in (401, 429, 500, 529)),
    Fault(operation="messages", kind="error_after", status=502),
)
URGENT_ROUND = ("aggregate_for_the_dead", "call_urgent", "call", "give_up_calls", *ROUND[1:])

urgent = st.builds(
    Wanted,
    st.sampled_from(FATES),
    st.sampled_from([0, 0, 1, 2]),
    st.integers(0, 2),
    st.just(False),
    st.just(False),
    st.sampled_from(DEADLINE_POLICIES),
)
comers = st.builds(
    Interruption, st.integers(0, 12), st.sampled_from(list(CALLS)), st.none() | st.integers(0, 3)
)


class Calls(Promises):
    """Some requests have deadlines, and are called."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        budgets = self.agents.budgets
        self.agents: CallingAgents = CallingAgents(
            self.engine, self.server, world.claude, world.fuse, Courier(self.engine, world.fuse), budgets
        )
        self.books: CallBooks = CallBooks(self.engine, self.server, world.simulator)

    @rule(client=st.integers(0, 1), wanted=st.lists(urgent, min_size=1, max_size=4))
    def enqueue_urgent(self, client: int, wanted: list[Wanted]) -> None:
        self.enqueue(client, wanted)

    @rule(agent=st.sampled_from(list(CALLS)), interruption=st.none() | mishaps | rivals | comers)
    def a_caller_runs(self, agent: str, interruption: Interruption | None) -> None:
        self.agents.run([agent], interruption)

    @rule(ended=st.booleans(), interruption=mishaps | rivals | comers)
    def all_agents_run_with_calls(self, ended: bool, interruption: Interruption) -> None:
        self.go_round(ended, interruption, URGENT_ROUND)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3))
    def a_call_will_go_wrong(self, faults: list[Fault]) -> None:
        self.world.simulator.arm(*faults)

    @rule()
    def deadlines_pass(self) -> None:
        self.agents.deadlines_pass()

    def nothing_is_lost_or_changed_afterwards(self) -> None:
        super().nothing_is_lost_or_changed_afterwards()
        self.books.assert_no_call_is_made_twice()

    def go_round(
        self, ended: bool, interruption: Interruption | None, agents: Sequence[str] = URGENT_ROUND
    ) -> None:
        super().go_round(ended, interruption, agents)

    def come_to_rest(self) -> None:
        self.agents.run(["go_on_late"], None)
        super().come_to_rest()

    def close(self) -> None:
        self.agents.messages.close()
        super().close()


@pytest.fixture(autouse=True)
def calls_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "ThreadPoolExecutor", OneByOne)
    monkeypatch.setattr(fallback, "sleep", lambda _: None)
    monkeypatch.setattr(deadlines, "CALL_SECONDS", 10**8)
    monkeypatch.setattr(call_rescuer, "SUSPICION", 60.0)


def test_whatever_happens_no_call_is_made_twice_and_none_is_lost_in_silence(world: World) -> None:
    def history() -> Calls:
        return Calls(world)

    profile = settings(PROFILE, max_examples=int(EXAMPLES or 8))
    run_state_machine_as_test(history, settings=profile)  # type: ignore[arg-type]


def test_the_model_sees_a_lost_call_that_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a bug: what may have been made is made again
    def again(error: ClaudeError, has_betas: bool) -> AfterCall:
        decided = after_call(error, has_betas)
        return AfterCall.AGAIN if decided is AfterCall.LOSE else decided

    monkeypatch.setattr(call_outcomes, "after_call", again)
    history = Calls(world)
    # When an answer is lost
    try:
        history.enqueue(0, [Wanted("fine", 0, 1, False, urgent="call")])
        history.a_call_will_go_wrong([Fault(operation="messages", kind="lost")])
        # Then the ledger has two
        for _ in range(3):
            history.go_round(ended=True, interruption=None)
        with pytest.raises(AssertionError):
            history.nothing_is_lost_or_changed_afterwards()
    finally:
        history.close()


@pytest.mark.parametrize("policy", DEADLINE_POLICIES)
def test_a_crash_at_any_point_of_a_history_with_calls_costs_nothing(world: World, policy: str) -> None:
    wanted = [Wanted(fate, 0, 1, False, urgent=policy) for fate in ("fine", "flaky", "wrong")]  # type: ignore[arg-type]
    for after in range(0, 200, 1 if EXAMPLES else 5):
        history = Calls(world)
        try:
            history.enqueue(0, wanted)
            for number in range(2):
                history.go_round(ended=number > 0, interruption=Interruption(after, CRASH))
                history.nothing_is_lost_or_changed_afterwards()
            history.come_to_rest()
        finally:
            history.close()
        if not world.fuse.burnt:
            break
