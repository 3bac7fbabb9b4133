"""Processes that stand still: stopped, paused or suspended for hours in the middle of a post, while others go on."""

from __future__ import annotations

import itertools

from tests.model.attacks import Mishap, live_through
from tests.model.test_model import Promises
from tests.model.world import World


def freeze_at_every_point(world: World) -> int:
    """Freeze the submitter at each point of its run, one after another, the last look apart; return how many."""
    for after in itertools.count():
        live_through(world, frozen(after))
        if not world.fuse.burnt:
            return after
    raise AssertionError("never")


def frozen(after: int) -> Mishap:
    """Return what freezes the submitter after so many points, until others have given its batch up and posted it."""

    def happen(history: Promises) -> None:
        agents, fuse = history.agents, history.world.fuse

        def others_go_on() -> None:
            for _ in range(2):
                agents.hours_pass()
                agents.rescue()
            agents.submit()
            history.world.claude.ended.update(history.world.made())

        history.go_round(ended=False, interruption=None, agents=("aggregate_for_the_dead",))
        fuse.light(after, others_go_on, None)
        agents.run(("submit",), None)

    return happen
