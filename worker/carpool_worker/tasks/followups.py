"""What follows a task: messages to the next agents, rows for Flower, answers for waiting producers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from carpool_worker.app import app
from carpool_worker.coordination.backlog import is_behind
from carpool_worker.coordination.connections import queues, server
from carpool_worker.coordination.keys import queue
from carpool_worker.coordination.locks import is_locked
from carpool_worker.database import engine, read
from carpool_worker.flower import events
from carpool_worker.pipeline.batching.lanes import Filled
from carpool_worker.pipeline.batching.releases import Releases
from carpool_worker.pipeline.collection.replies import Replies
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.requests.answers import load_answers

RELEASES = Releases()
"""Those of this process."""


def begin() -> None:
    """Find out what the doors count, before anything ends: what ends then has its room free again at once."""
    RELEASES.begin(server())


def release(request_ids: Sequence[str]) -> None:
    """Let requests that have ended, once committed, count as waiting no longer; before their answers are announced."""
    RELEASES.ended(engine(), server(), request_ids)


def report(filled: Filled) -> None:
    """Publish the changed batches, notify the submitter of sealed ones, and push the answers of ended requests."""
    publish([*filled.opened, *filled.sealed, *filled.dissolved])
    notify("submit", filled.sealed)
    if ended := [*filled.canceled, *filled.refused]:
        release(ended)
        push_answers(ended)
        notify("deliver")


def announce(request_ids: Sequence[str], replies: Replies) -> None:
    """Tell everybody who waits for it that requests have ended, once that is committed."""
    release(request_ids)  # before anybody knows that there is room
    reply.push_packed(server(), replies)
    push_answers(request_ids)
    notify("deliver")


def push_answers(request_ids: Sequence[str]) -> None:
    """Push the answers of requests, once committed, to the producers that wait for them."""
    if waited := reply.waited(server(), request_ids):
        with read(engine()) as connection:
            reply.push(server(), load_answers(connection, list(waited)))


def notify(agent: str, names: Iterable[str] | None = None) -> None:
    """Send an agent one message per batch or shard, or a single one if it finds its work by itself."""
    if is_behind(queues(), queue(agent)):
        return  # the next tick sends them again
    for args in [()] if names is None else [(name,) for name in names]:
        app.send_task(f"carpool.{agent}", args, queue=queue(agent))


def hand_on(agent: str, batch_ids: Sequence[str]) -> None:
    """Send an agent that is done with a batch the next one: its message may have come while no slot was free."""
    notify(agent, [batch_id for batch_id in batch_ids if not is_locked(server(), f"{agent}:{batch_id}")][:1])


def publish_lane_of(batch_id: str) -> None:
    """Update the rows in Flower of what a batch's lane has not sent, if the lane is paused."""
    with read(engine()) as connection:
        batch = batches.get(connection, batch_id)
        paused = lane_pauses.by_lane(connection)
    if batch and batch.lane in paused:
        events.publish_lanes(app, engine(), [batch.lane])


def publish(batch_ids: Iterable[str]) -> None:
    """Update the rows of batches in Flower."""
    events.publish(app, engine(), batch_ids)
