"""The ids that a wait has no answer for: found and settled like those of a set, in a quarter of its memory."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from carpool import InvalidRequest, RequestIds
from carpool.contract import mint_id
from carpool.outstanding import Outstanding


def packed(id_: str) -> bytes:
    return bytes.fromhex(id_)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1_000])
def test_each_id_is_found_until_it_is_settled(count: int) -> None:
    # Given ids of both kinds, and some of them twice
    ids = [mint_id("tests", str(n) if n % 3 == 0 else None) for n in range(count)]
    outstanding = Outstanding([*ids, *ids[:10]])
    assert len(outstanding) == count
    # When they are settled in any order
    for id_ in random.sample(ids, count):
        assert packed(id_) in outstanding
        assert outstanding.settle(packed(id_)) == ([0], [])
        # Then each is so once
        assert outstanding.settle(packed(id_)) == ([], [])
        assert packed(id_) not in outstanding
    assert len(outstanding) == 0
    assert packed(mint_id("tests")) not in outstanding


def test_ids_that_differ_only_in_what_they_are_not_looked_up_by_are_told_apart() -> None:
    ids = [f"{number:024x}0000002a" for number in range(500)]
    outstanding = Outstanding(ids)
    other = "f" * 24 + "0000002a"
    assert outstanding.settle(packed(ids[250] + other + ids[250] + ids[251])) == ([0, 3], [1])
    assert list(outstanding.ids()) == ids[:250] + ids[252:]


def test_the_next_of_them_skip_what_is_settled_before() -> None:
    ids = [mint_id("tests") for _ in range(10)]
    outstanding = Outstanding(ids)
    for id_ in ids[:3] + ids[4:6]:
        outstanding.settle(packed(id_))
    span = outstanding.next_span(0, 4)
    assert (span, outstanding.count(span), list(outstanding.ids(span))) == (range(3, 7), 2, [ids[3], ids[6]])
    assert outstanding.next_span(7, 100) == range(7, 10)
    assert len(outstanding.next_span(10, 5)) == 0


def test_an_id_that_is_none_is_refused() -> None:
    for wrong in ("invoice-42", "A" * 32, 7):
        with pytest.raises(InvalidRequest, match="request_id: must be 32 hexadecimal digits"):
            Outstanding([mint_id("tests"), wrong])  # type: ignore[list-item]


def test_many_ids_take_little_memory() -> None:
    ids = RequestIds.packed(random.randbytes(16 * 200_000))
    tracemalloc.start()
    outstanding = Outstanding(ids)
    size, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(outstanding) == 200_000
    assert size < 34 * 200_000
    assert peak < 42 * 200_000
