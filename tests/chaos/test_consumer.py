"""The consumer of a chaos run loses nothing itself: what it does not get, it was never sent."""

from __future__ import annotations

from contextlib import closing

import celery
import redis
from tests.chaos.consumer import TAKEN, TASK_NAME, TASK_QUEUE, Consumer
from tests.fixtures.waiting import until


def test_what_was_taken_when_the_connection_broke_is_not_lost(redis_url: str) -> None:
    # Given two messages, the first of which was taken by a move whose reply was lost
    with celery.Celery(broker=redis_url, set_as_current=False) as app:
        for id_ in "ab":
            app.send_task(TASK_NAME, args=[{"id": id_}], queue=TASK_QUEUE)
    with redis.Redis.from_url(redis_url) as server:
        server.lmove(TASK_QUEUE, TAKEN, "RIGHT", "LEFT")

        # When
        with closing(Consumer(redis_url)) as consumer:
            until(lambda: len(consumer.received) == 2)

        # Then
        assert dict(consumer.received) == {"a": 1, "b": 1}
        assert (server.llen(TASK_QUEUE), server.llen(TAKEN), consumer.broken) == (0, 0, [])
