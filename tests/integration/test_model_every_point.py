"""The model's promises by exhaustion: one history, a crash at each of its points in turn, each rival at all of them."""

from __future__ import annotations

import itertools

import pytest
from tests.integration.model_agents import CRASH, RIVALS, ROUND, Interruption
from tests.integration.model_world import Wanted, World, world
from tests.integration.test_model import Promises

__all__ = ["world"]

WANTED = [
    Wanted(fate, lane=0, callback=1, keyed=False) for fate in ("fine", "flaky", "wrong", "fine", "fine")
]
"""One full batch."""

ROUNDS = {"on the way out": 0, "on the way back": 1}
"""In the first the batch is filled and posted, in the second its results and deliveries come."""


def live_through(world: World, interrupted: int, interruption: Interruption) -> bool:
    """Live a history whose round of that number is interrupted; return whether it ever was."""
    history = Promises(world)
    try:
        history.enqueue(0, WANTED)
        for _ in range(interrupted):
            history.go_round(ended=True, interruption=None)
        history.go_round(ended=True, interruption=interruption)
        history.nothing_is_lost_or_changed_afterwards()
        return world.fuse.burnt
    finally:
        history.teardown()


@pytest.mark.parametrize("interrupted", ROUNDS.values(), ids=ROUNDS.keys())
def test_a_crash_at_any_point_costs_nothing(world: World, interrupted: int) -> None:
    for after in itertools.count():
        if not live_through(world, interrupted, Interruption(after, CRASH)):
            assert after > 10
            return


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("interrupted", ROUNDS.values(), ids=ROUNDS.keys())
def test_a_rival_between_any_two_steps_costs_nothing(world: World, interrupted: int, rival: str) -> None:
    assert live_through(world, interrupted, Interruption(0, rival, again=0))


def test_an_agent_that_meets_its_like_between_any_two_steps_costs_nothing(world: World) -> None:
    history = Promises(world)
    history.enqueue(0, WANTED)

    for _ in ROUNDS:
        history.hours_pass()
        history.anthropic_ends(newest_alone=False)
        for agent in ROUND:
            history.agents.run([agent], Interruption(0, agent, again=0))
            history.nothing_is_lost_or_changed_afterwards()

    history.teardown()
