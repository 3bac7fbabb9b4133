"""The model's promises by exhaustion: one history, a crash at each of its points in turn, each rival at all of them."""

from __future__ import annotations

import pytest
from tests.model import attacks
from tests.model.agents import RIVALS, Interruption
from tests.model.attacks import ROUNDS, interrupted, live_through
from tests.model.world import World, world

__all__ = ["world"]


def test_a_crash_at_any_point_of_the_way_out_costs_nothing(world: World) -> None:
    assert attacks.crash_on_the_way_out(world) > 10


def test_a_crash_at_any_point_of_the_way_back_costs_nothing(world: World) -> None:
    assert attacks.crash_on_the_way_back(world) > 10


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize("number", ROUNDS.values(), ids=ROUNDS.keys())
def test_a_rival_between_any_two_steps_costs_nothing(world: World, number: int, rival: str) -> None:
    live_through(world, interrupted(number, Interruption(0, rival, again=0)))
    assert world.fuse.burnt


def test_a_fault_of_any_kind_costs_nothing(world: World) -> None:
    attacks.suffer_faults(world)


def test_a_commit_that_is_refused_costs_nothing(world: World) -> None:
    attacks.suffer_refusals(world)


def test_a_key_that_comes_again_with_other_params_costs_nothing(world: World) -> None:
    attacks.use_keys_again(world)


def test_batches_that_all_kinds_share_cost_nothing(world: World) -> None:
    attacks.share_batches(world)


def test_answers_of_which_some_are_never_taken_cost_nothing(world: World) -> None:
    attacks.deliver_in_parts(world)


def test_a_cancellation_on_the_way_costs_nothing(world: World) -> None:
    attacks.cancel_midway(world)


def test_a_stranger_in_the_place_of_a_lost_batch_costs_nothing(world: World) -> None:
    attacks.meet_strangers(world)


def test_an_agent_that_meets_its_like_between_any_two_steps_costs_nothing(world: World) -> None:
    attacks.meet_their_like(world)
