"""How many requests fit into a batch."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.policies.limits import BODY_FRAME_BYTES, Limits, fitting, item_bytes

sizes = st.lists(st.integers(0, 2_000), max_size=50)
limits = st.builds(Limits, st.integers(1, 30), st.integers(1_000, 10_000), st.just(0.0))


@given(sizes, st.integers(0, 40), st.integers(0, 12_000), limits)
def test_a_batch_never_gets_more_than_fits(
    sizes: list[int], count: int, used_bytes: int, limits: Limits
) -> None:
    n = fitting(sizes, count, used_bytes, limits)
    total = BODY_FRAME_BYTES + used_bytes + sum(map(item_bytes, sizes[:n]))

    assert 0 <= n <= len(sizes)
    assert n == 0 or count + n <= limits.count
    assert n == 0 or total <= limits.body_bytes or count + n == 1


@given(sizes.filter(len), limits)
def test_an_empty_batch_always_takes_a_request(sizes: list[int], limits: Limits) -> None:
    assert fitting(sizes, 0, 0, limits) >= 1


@given(sizes, st.integers(0, 40), st.integers(0, 12_000), limits)
def test_a_batch_takes_all_that_fit(sizes: list[int], count: int, used_bytes: int, limits: Limits) -> None:
    n = fitting(sizes, count, used_bytes, limits)
    more = BODY_FRAME_BYTES + used_bytes + sum(map(item_bytes, sizes[: n + 1]))

    assert n == len(sizes) or count + n >= limits.count or more > limits.body_bytes


@given(st.lists(st.text(max_size=20), min_size=1, max_size=20))
def test_the_bytes_counted_are_those_of_the_body_or_a_few_more(texts: list[str]) -> None:
    params = [json.dumps({"text": text}).encode() for text in texts]
    items = [b'{"custom_id":"%032x","params":%b}' % (n, body) for n, body in enumerate(params)]
    body = b'{"requests":[' + b",".join(items) + b"]}"

    counted = BODY_FRAME_BYTES + sum(item_bytes(len(one)) for one in params)

    assert len(body) <= counted <= len(body) + 1
