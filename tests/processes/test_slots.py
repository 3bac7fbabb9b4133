"""The slots of a worker: how many of its processes a slow agent may occupy."""

from __future__ import annotations

import pytest
import redis

from carpool_worker.coordination.keys import QUEUES, queue
from carpool_worker.coordination.locks import slot, slots


@pytest.mark.parametrize(
    ("queues", "processes", "expected"),
    [
        (QUEUES, 1, 1),
        (QUEUES, 8, 2),
        (QUEUES, 16, 5),
        ([queue("deliver")], 3, 2),  # the replies have a process left
        ([queue("collect")], 4, 4),
        ([queue("submit"), queue("collect")], 5, 2),
        ([queue("poll")], 2, 1),
    ],
)
def test_a_slow_agent_occupies_a_share_of_the_processes(
    queues: list[str], processes: int, expected: int
) -> None:
    assert slots(queues, processes) == expected


def test_what_has_all_of_its_slots_gets_no_other_until_one_is_free(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        with slot(server, "collect", 2) as first, slot(server, "collect", 2) as second:
            with slot(server, "collect", 2) as third:
                assert (first, second, third) == (True, True, False)
            with slot(server, "submit", 2) as of_another_kind:
                assert of_another_kind
        with slot(server, "collect", 2) as again:
            assert again
