"""Turns of what goes one by one: no client starves, shares follow the weights, and each one's order holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import count
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool_worker.policies.fairness import weight_of
from carpool_worker.policies.turn_queues import TurnQueue

MOST = 200
"""What an item costs at most, as a segment of answers."""

names = st.sampled_from(["big", "small", "nightly", "web"])
weights = st.dictionaries(names, st.floats(0.1, 10, allow_nan=False), max_size=4)
draws = st.lists(st.floats(0, 1, allow_nan=False), min_size=4, max_size=4)


class Item(NamedTuple):
    client: str
    number: int
    cost: int


arrivals = st.lists(st.builds(Item, names, st.just(0), st.integers(1, MOST)), max_size=40).map(
    lambda items: [one._replace(number=number) for number, one in enumerate(items)]
)


def queue_of(
    weights: Mapping[str, float], drawn: Sequence[float], items: Sequence[Item] = ()
) -> TurnQueue[Item]:
    queue = TurnQueue[Item](weights, lambda one: one.client, lambda one: one.cost, iter(drawn).__next__)
    for one in items:
        queue.add(one)
    return queue


def all_of(queue: TurnQueue[Item]) -> list[Item]:
    return [queue.take() for _ in range(len(queue))]


@settings(deadline=None)
@given(weights, draws, arrivals, st.lists(st.booleans(), max_size=80))
def test_everything_goes_once_and_in_the_order_of_its_client_whenever_it_comes(
    weights: Mapping[str, float], drawn: Sequence[float], items: Sequence[Item], adds: Sequence[bool]
) -> None:
    # Given items that come while others go
    queue, waiting, gone = queue_of(weights, drawn), list(items), list[Item]()
    for add in adds:
        if add and waiting:
            queue.add(waiting.pop(0))
        elif queue:
            gone.append(queue.take())
    left = items[: len(items) - len(waiting)]
    assert len(queue) == len(left) - len(gone)
    assert set(queue.clients) == {one.client for one in left} - {
        client
        for client, number in Counter(one.client for one in left).items()
        if number == _of(gone, client)
    }

    # When all that came has gone
    gone += all_of(queue)

    # Then
    assert sorted(gone, key=lambda one: one.number) == list(left)
    for client in {one.client for one in gone}:
        numbers = [one.number for one in gone if one.client == client]
        assert numbers == sorted(numbers)
    assert queue.clients == []
    with pytest.raises(IndexError):
        queue.take()


def _of(items: Sequence[Item], client: str) -> int:
    return sum(one.client == client for one in items)


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(names, st.floats(0.1, 10, allow_nan=False), min_size=2, max_size=4),
    st.dictionaries(names, st.integers(1, MOST), min_size=4, max_size=4),
    draws,
)
def test_shares_follow_the_weights_where_all_have_more_waiting(
    weights: Mapping[str, float], sizes: Mapping[str, int], drawn: Sequence[float]
) -> None:
    items = [Item(client, number, sizes[client]) for client in weights for number in range(200)]
    queue, sent = queue_of(weights, drawn, items), Counter[str]()

    for _ in range(200):
        one = queue.take()
        sent[one.client] += one.cost

    # Then none is further from its share than an item of each
    served = {client: sent[client] / weight_of(weights, client) for client in weights}
    largest = sorted(sizes[client] / weight_of(weights, client) for client in weights)[-2:]
    assert max(served.values()) - min(served.values()) <= sum(largest) + 1


@settings(deadline=None, max_examples=30)
@given(weights, draws, st.integers(0, 500), st.integers(1, MOST))
def test_one_that_comes_to_a_crowd_waits_for_an_item_of_each_and_no_more(
    weights: Mapping[str, float], drawn: Sequence[float], earlier: int, cost: int
) -> None:
    # Given others with any number of items, of which some have gone
    others, numbers = ["big", "nightly", "web"], count()
    queue = queue_of(weights, drawn, [Item(one, next(numbers), cost) for one in others for _ in range(200)])
    for _ in range(earlier):
        queue.take()

    # When one comes
    queue.add(Item("small", next(numbers), cost))

    # Then what others get meanwhile brings none of them further than it stands
    before = defaultdict[str, int](int)
    while (one := queue.take()).client != "small":
        before[one.client] += 1
    assert all(number <= 1 for number in before.values())


@settings(deadline=None)
@given(weights, draws, arrivals, st.integers(0, 20), st.integers(0, 20))
def test_what_is_put_back_goes_as_if_it_had_not_been_taken(
    weights: Mapping[str, float], drawn: Sequence[float], items: Sequence[Item], before: int, taken: int
) -> None:
    queue, undisturbed = queue_of(weights, drawn, items), queue_of(weights, drawn, items)
    for _ in range(min(before, len(items))):
        queue.take()
        undisturbed.take()

    for one in reversed([queue.take() for _ in range(min(taken, len(queue)))]):
        queue.put_back(one)

    assert all_of(queue) == all_of(undisturbed)


@settings(deadline=None)
@given(weights, draws, arrivals, st.integers(0, 40), st.integers(0, 40))
def test_a_cut_leaves_what_goes_next(
    weights: Mapping[str, float], drawn: Sequence[float], items: Sequence[Item], before: int, most: int
) -> None:
    queue, whole = queue_of(weights, drawn, items), queue_of(weights, drawn, items)
    for _ in range(min(before, len(items))):
        queue.take()
        whole.take()

    rest = queue.cut(most)

    order = all_of(whole)
    assert rest == order[most:]
    assert all_of(queue) == order[:most]


def test_a_draw_decides_between_those_that_stand_alike() -> None:
    items = [Item("big", 1, 1), Item("small", 2, 1)]

    assert [one.client for one in all_of(queue_of({}, [0.2, 0.7], items))] == ["big", "small"]
    assert [one.client for one in all_of(queue_of({}, [0.7, 0.2], items))] == ["small", "big"]
