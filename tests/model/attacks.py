"""Systematic attacks on one short history; each ends at the first broken promise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from tests.model.agents import CRASH, REFUSAL, RIVALS, ROUND, Interruption
from tests.model.test_model import CLIENTS, EXAMPLES, Promises
from tests.model.world import CALLBACKS, FAULTS, Wanted, World

from carpool_worker.simulator import Fault

WANTED = [
    Wanted(fate, lane=0, callback=1, keyed=False) for fate in ("fine", "flaky", "wrong", "fine", "fine")
]
"""One full batch."""

ROUNDS = {"on the way out": 0, "on the way back": 1}
"""In the first the batch is filled and posted, in the second its results and deliveries come."""

ON_THE_WAY_OUT = ("aggregate_for_the_dead", "submit", "rescue")
"""The agents that have work in the first round."""

STRIDE = 1 if EXAMPLES else 3
"""Points from one meeting of two of a kind to the next: there are many, and each takes a history."""

Mishap = Callable[[Promises], None]


def live_through(world: World, mishap: Mishap) -> None:
    """Live a history in which a batch is enqueued, `mishap` happens, and all comes to rest."""
    history = Promises(world)
    try:
        history.enqueue(0, WANTED)
        mishap(history)
        history.nothing_is_lost_or_changed_afterwards()
        history.come_to_rest()
    finally:
        history.close()


def crash_on_the_way_out(world: World, first: int = 0) -> int:
    """Crash at each point of the first round, one after another, from the `first` on; return how many there are."""
    return _crash_at_every_point(world, ROUNDS["on the way out"], first)


def crash_on_the_way_back(world: World, first: int = 0) -> int:
    """Crash at each point of the second round, one after another, from the `first` on; return how many there are."""
    return _crash_at_every_point(world, ROUNDS["on the way back"], first)


def suffer_refusals(world: World) -> None:
    """Let the database refuse one commit of each round, one after another."""
    for number in ROUNDS.values():
        # There are two points to each commit: every other one is before each of them.
        _at_every_point(world, lambda after: interrupted(number, Interruption(after, REFUSAL)), stride=2)  # noqa: B023


def use_keys_again(world: World, first: int = 0) -> None:
    """Let keys come again with other params, and the aggregator crash at each point, from the `first` on."""
    _at_every_point(world, with_keys_used_again, first=first)


def deliver_in_parts(world: World) -> None:
    """Let receivers take some answers of a segment, and the others never."""
    live_through(world, taken_in_parts)


def share_batches(world: World) -> None:
    """Let two clients, and requests with all kinds of callbacks, share batches."""
    live_through(world, joined_by_all_kinds)


def go_undisturbed(world: World) -> None:
    """Let nothing go wrong."""
    live_through(world, lambda _: None)


def meet_rivals(world: World) -> None:
    """Let each rival in between any two steps of each round."""
    for number, rival in itertools.product(ROUNDS.values(), RIVALS):
        live_through(world, interrupted(number, Interruption(0, rival, again=0)))
        assert world.fuse.burnt


def meet_their_like(world: World) -> None:
    """Let a second agent of its kind in between any two steps of each agent, at one point after the other.

    At every third point, or at each where CARPOOL_MODEL_EXAMPLES asks for long runs.
    """
    for agent in ROUND:
        number = ROUNDS["on the way out" if agent in ON_THE_WAY_OUT else "on the way back"]
        _at_every_point(world, lambda after: met_by_its_like(number, agent, after), STRIDE)  # noqa: B023


def suffer_faults(world: World, faults: Sequence[Fault] = FAULTS) -> None:
    """Let each kind of fault strike once."""
    for fault in (one for place, one in enumerate(faults) if one not in faults[:place]):
        live_through(world, struck_by(fault))


def meet_strangers(world: World) -> None:
    """Lose the post of a batch, while a stranger (another program) makes one with as many requests."""
    live_through(world, replaced_by_a_stranger)


def cancel_midway(world: World) -> None:
    """Let the client cancel some before the batch is posted, then while Anthropic has it, then among its retries."""
    for agents in (("aggregate",), ("aggregate", "submit"), ROUND):
        live_through(world, canceled_after(agents))


def canceled_after(agents: Sequence[str]) -> Mishap:
    """Return what cancels some requests after these agents have run, and lets the aggregator know."""

    def happen(history: Promises) -> None:
        history.go_round(ended=False, interruption=None, agents=agents)
        history.a_client_cancels(0, share=2)
        history.go_round(ended=True, interruption=None, agents=("aggregate",))
        history.nothing_is_lost_or_changed_afterwards()

    return happen


def interrupted(number: int, interruption: Interruption) -> Mishap:
    """Return what interrupts the round of that number."""

    def happen(history: Promises) -> None:
        for _ in range(number):
            history.go_round(ended=True, interruption=None)
        history.go_round(ended=True, interruption=interruption)

    return happen


def met_by_its_like(number: int, agent: str, after: int) -> Mishap:
    """Return what lets another of its kind in after so many points of an agent's run in that round."""

    def happen(history: Promises) -> None:
        for _ in range(number):
            history.go_round(ended=True, interruption=None)
        history.go_round(ended=True, interruption=None, agents=ROUND[: ROUND.index(agent)])
        history.agents.run([agent], Interruption(after, agent))

    return happen


def struck_by(fault: Fault) -> Mishap:
    """Return what lets a fault strike on the way."""

    def happen(history: Promises) -> None:
        history.something_will_go_wrong([fault])
        for _ in ROUNDS:
            history.go_round(ended=True, interruption=None)

    return happen


def with_keys_used_again(after: int) -> Mishap:
    """Return what lets one key come again whose request is stored, and one whose is not, and the aggregator crash."""

    def happen(history: Promises) -> None:
        stored, new = (Wanted(fate, lane=0, callback=1, keyed=True) for fate in ("fine", "flaky"))
        history.enqueue(0, [stored])
        history.go_round(ended=False, interruption=None, agents=("aggregate",))
        for again in (stored._replace(other=True), new, new._replace(other=True)):
            history.enqueue(0, [again])
        for interruption in (Interruption(after, CRASH), None):
            history.go_round(ended=False, interruption=interruption, agents=("aggregate_for_the_dead",))
            history.nothing_is_lost_or_changed_afterwards()

    return happen


def joined_by_all_kinds(history: Promises) -> None:
    """Enqueue requests of each client with each kind of callback."""
    for client in range(len(CLIENTS)):
        history.enqueue(client, [WANTED[0]._replace(callback=number) for number in range(len(CALLBACKS))])


def taken_in_parts(history: Promises) -> None:
    """Let every other answer be taken at the first try, and the others never."""
    for _ in range(len(ROUND)):
        history.go_round(ended=True, interruption=None, agents=(*ROUND[:-1], "deliver_in_vain"))
        history.nothing_is_lost_or_changed_afterwards()


def replaced_by_a_stranger(history: Promises) -> None:
    """Lose a post that made no batch, while another program makes one."""
    history.something_will_go_wrong([Fault(operation="create", kind="dropped")])
    history.go_round(ended=False, interruption=None, agents=("aggregate", "submit"))
    history.another_program_posts_a_batch(len(WANTED))


def _crash_at_every_point(world: World, number: int, first: int) -> int:
    return _at_every_point(world, lambda after: interrupted(number, Interruption(after, CRASH)), first=first)


def _at_every_point(
    world: World, mishap_after: Callable[[int], Mishap], stride: int = 1, first: int = 0
) -> int:
    for after in itertools.count(first, stride):
        live_through(world, mishap_after(after))
        if not world.fuse.burnt:
            return after
    raise AssertionError("never")
