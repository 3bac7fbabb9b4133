"""Whose turn it is: no client starves, shares converge to the weights, and nothing is lost where one is alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool_worker.policies.fairness import (
    Share,
    Turns,
    Unsent,
    gathering,
    in_turns,
    interleaved,
    served_whole,
    weight_of,
)

FULL = 100

names = st.sampled_from(["big", "small", "nightly", "web", "crawler"])
weights = st.dictionaries(names, st.floats(0.1, 10, allow_nan=False), max_size=5)
shares = st.dictionaries(
    names, st.builds(Share, st.integers(1, FULL), st.integers(-100, 100)), min_size=1, max_size=4
)
lines = st.lists(
    st.builds(
        lambda of, age, is_open, lane: (of, age, is_open, lane),
        shares,
        st.integers(0, 5),
        st.booleans(),
        st.sampled_from(["haiku", "opus"]),
    ),
    max_size=15,
)


def batch(name: str, opened_at: int = 0, /, is_open: bool = False, lane: str = "haiku", **of: int) -> Unsent:
    return Unsent(name, lane, opened_at, {client: Share(n) for client, n in of.items()}, is_open)


def as_batches(drawn: Sequence[tuple[Mapping[str, Share], int, bool, str]]) -> list[Unsent]:
    return [Unsent(f"{n}", lane, age, of, is_open) for n, (of, age, is_open, lane) in enumerate(drawn)]


def order(batches: Sequence[Unsent], turns: Turns | None = None) -> list[str]:
    return [turn.batch.id for turn in in_turns(batches, turns or Turns())]


def test_while_one_has_a_million_waiting_another_s_ten_go_with_the_next_batch() -> None:
    crowd = [batch(f"big {n}", n, big=FULL) for n in range(10_000)]
    turns = Turns(clock=5_000, served={"big": 105_000})

    assert order([*crowd, batch("small", 99_999, small=10)], turns)[:2] == ["small", "big 0"]


def test_who_had_nothing_to_send_gets_nothing_for_that_time() -> None:
    # Given one that was served for long while the other wanted nothing
    turns = Turns()
    for n in range(50):
        turns.serve(batch(f"{n}", big=FULL).shares)
    line = [batch(f"b{n}", 1, big=FULL) for n in range(5)] + [batch(f"s{n}", 2, small=FULL) for n in range(5)]

    # Then the other is one batch ahead, not fifty
    assert order(line, turns)[:5] == ["s0", "b0", "s1", "b1", "s2"]


def test_within_a_client_priority_holds_then_age_and_neither_reaches_across_clients() -> None:
    def one(name: str, client: str, age: int, priority: int) -> Unsent:
        return Unsent(name, "haiku", age, {client: Share(10, priority)})

    line = [
        one("a old", "a", 1, 0),
        one("a urgent", "a", 2, 100),
        one("b low", "b", 3, -100),
        one("b lower", "b", 0, -101),
    ]

    assert order(line) == ["a urgent", "b low", "b lower", "a old"]


@settings(deadline=None)
@given(lines, weights)
def test_every_batch_goes_once_and_the_turns_that_were_given_stay_as_they_are(
    drawn: list[tuple[Mapping[str, Share], int, bool, str]], weights: Mapping[str, float]
) -> None:
    batches, turns = as_batches(drawn), Turns(weights, 7, {"big": 9})

    assert sorted(order(batches, turns)) == sorted(one.id for one in batches)
    assert (turns.clock, turns.served) == (7, {"big": 9})


@settings(deadline=None)
@given(lines)
def test_where_one_is_alone_its_batches_go_in_order_of_priority_and_age(
    drawn: list[tuple[Mapping[str, Share], int, bool, str]],
) -> None:
    batches = [one._replace(shares={"big": max(one.shares.values())}) for one in as_batches(drawn)]

    assert order(batches) == [one.id for one in sorted(batches, key=lambda one: one.key("big"))]


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(names, st.floats(0.2, 5, allow_nan=False), min_size=2, max_size=5),
    st.dictionaries(names, st.integers(1, FULL), min_size=5, max_size=5),
)
def test_shares_converge_to_the_weights(weights: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    # Given clients that always have more waiting, each in batches of its own size
    line = [
        Unsent(f"{client} {n}", "haiku", n, {client: Share(sizes[client])})
        for client in weights
        for n in range(500)
    ]

    # When many batches have gone
    turns, sent = Turns(weights), Counter[str]()
    for turn in islice(in_turns(line, turns), 400):
        sent[turn.client] += sizes[turn.client]

    # Then none is further from its share than the largest batch
    served = {client: sent[client] / weight_of(weights, client) for client in weights}
    most = max(sizes[client] / weight_of(weights, client) for client in weights)
    assert max(served.values()) - min(served.values()) <= 2 * most + 1


@settings(max_examples=30, deadline=None)
@given(weights, st.integers(1, 10), st.data())
def test_no_client_starves_whatever_the_others_send(
    weights: Mapping[str, float], own: int, data: st.DataObject
) -> None:
    # Given others of which new batches come each time that one goes, and one with a single batch
    turns = Turns(weights, 0, {"small": data.draw(st.integers(0, 50_000))})
    others = ["big", "nightly", "web"]
    line = [batch("own", 10**6, small=own)]
    for n in range(100_000):
        line += [Unsent(f"{one} {n}", "haiku", n, {one: Share(FULL)}) for one in others if n < 50]
        [first] = islice(in_turns(line, turns), 1)
        turns.serve(first.batch.shares)
        if first.batch.id == "own":
            return
        line = [one if one != first.batch else one._replace(id=f"{one.id}+") for one in line]
        # Then it has gone once each of the others has had as much for its weight
        begins = 50_000 + turns.cost("small", own)
        assert n <= 3 + sum(begins / turns.cost(one, FULL) for one in others)


def test_what_is_served_whole_is_what_needs_less_than_its_share() -> None:
    totals = {"big": 1_000_000, "small": 10, "web": 40}

    assert served_whole(totals, Turns(), 89) == {"small"}
    assert served_whole(totals, Turns(), 90) == {"small", "web"}
    assert served_whole(totals, Turns({"web": 4}), 60) == {"small", "web"}
    assert served_whole(totals, Turns(clock=0, served={"small": 10**9}), 80) == {"web"}
    assert served_whole({"small": 10}, Turns(), 10) == {"small"}
    assert served_whole({"small": 11}, Turns(), 10) == set()


def test_small_clients_leave_together_the_batch_that_they_share_with_a_big_one() -> None:
    # Given a big client that has had its share, and small ones among its requests, sealed and not
    turns = Turns(served={"big": FULL * 1_000})
    line = [
        batch("old", 1, big=FULL),
        batch("mixed", 2, big=85, small=10, web=5),
        batch("open", 3, True, big=40, web=3, crawler=1),
        batch("elsewhere", 3, lane="opus", web=7),
    ]

    plan = gathering(line, turns, FULL, FULL)

    assert plan
    assert plan.clients == {"small", "web", "crawler"}
    assert [one.id for one in plan.sources] == ["mixed", "open"]


@pytest.mark.parametrize("served", [0, 500])
def test_a_batch_goes_as_it_is_while_nobody_gets_far_ahead_by_it(served: int) -> None:
    line = [batch("mixed", 1, big=50, small=50), batch("next", 2, big=100)]

    assert gathering(line, Turns(served={"big": served}), FULL, FULL) is None


def test_one_with_much_leaves_a_batch_alone_and_not_twice() -> None:
    # Given two with much, in batches of which each has nine tenths of one
    line = [batch(f"{n}", n, big=90, medium=10) for n in range(30)]
    turns = Turns(served={"big": FULL * 1_000})

    # When it is the other's turn
    plan = gathering(line, turns, FULL, FULL)

    # Then it is gathered from several, and goes as it is from then on
    assert plan
    assert plan.clients == {"medium"}
    assert plan.most == FULL
    assert [one.id for one in plan.sources] == [f"{n}" for n in range(8)]
    gathered = Unsent("gathered", "haiku", 0, {"medium": Share(80)}, is_gathered=True)
    left = [batch(f"{n}", n, big=90) for n in range(8)] + line[8:]
    assert order([*left, gathered], turns)[0] == "gathered"
    assert gathering([*left, gathered], turns, FULL, FULL) is None


def test_what_arrives_at_once_goes_in_turns_and_segments_stay_whole() -> None:
    arrived = [("big", n // 4, 0) for n in range(12)] + [("small", 9, -5), ("small", 9, 5), ("web", 8, 0)]

    found = interleaved(
        arrived, lambda one: one[0], lambda one: -one[2], lambda one: (one[1], one[2]), {"big": 2}
    )

    assert [one[:2] for one in found] == [
        ("small", 9),
        *[("big", 0)] * 4,
        ("web", 8),
        ("small", 9),
        *[("big", 1)] * 4,
        *[("big", 2)] * 4,
    ]
