"""Searches that find nothing, for other reasons than that there is nothing."""

from __future__ import annotations

from contextlib import closing

from tests.model.attacks import WANTED, live_through
from tests.model.interruptions import PorousClaude
from tests.model.test_model import Promises
from tests.model.world import World

from carpool_worker.claude.credentials import Credentials
from carpool_worker.simulator import Fault

ELSEWHERE = "sk-ant-elsewhere"
"""A key of another workspace."""

SEARCHES = 3
"""With hours in between: more than it takes to conclude from a list what may be concluded."""

LOST = Fault(operation="create", kind="lost")


def search_a_stubbed_list(world: World) -> None:
    """Lose the answer to a post, while a relay shows an empty list, though batches of ours are at Anthropic."""

    def happen(history: Promises) -> None:
        history.go_round(ended=False, interruption=None, agents=("aggregate", "submit"))
        history.enqueue(0, WANTED[:3])  # there is room for these at Anthropic, too
        history.something_will_go_wrong([LOST])
        for _ in range(2):  # the second seals the batch, which is not full, and posts it
            history.go_round(ended=False, interruption=None, agents=("aggregate", "submit"))
        world.claude.is_stubbed = True
        _search(history)
        world.claude.is_stubbed = False

    live_through(world, happen)


def search_elsewhere(world: World) -> None:
    """Lose the answer to a workspace's first post, while the only worker has the key of another workspace."""
    world.simulator.assign({ELSEWHERE: "wrkspc_elsewhere"})

    def happen(history: Promises) -> None:
        history.something_will_go_wrong([LOST])
        history.go_round(ended=False, interruption=None, agents=("aggregate", "submit"))
        with closing(PorousClaude(world.fuse, Credentials(api_key=ELSEWHERE))) as elsewhere:
            history.agents.claude = elsewhere
            _search(history)
        history.agents.claude = world.claude

    live_through(world, happen)


def _search(history: Promises) -> None:
    for _ in range(SEARCHES):
        history.go_round(ended=False, interruption=None, agents=("rescue",))
