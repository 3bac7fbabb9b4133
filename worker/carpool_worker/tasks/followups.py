"""Who hears of what a task has done: the next agent, Flower, and the producers that wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from carpool_worker.app import app
from carpool_worker.coordination.backlog import is_behind
from carpool_worker.coordination.connections import server
from carpool_worker.coordination.keys import queue
from carpool_worker.database import engine, read
from carpool_worker.flower import events
from carpool_worker.pipeline.batching.lanes import Filled
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.store.requests.answers import load_answers


def report(filled: Filled) -> None:
    """Tell of batches that were opened, sealed or dissolved, and of requests that have ended on the way."""
    show([*filled.opened, *filled.sealed, *filled.dissolved])
    nudge("submit", filled.sealed)
    if ended := [*filled.canceled, *filled.refused]:
        answer(ended)
        nudge("deliver")


def answer(request_ids: Sequence[str]) -> None:
    """Push the answers that somebody waits for."""
    if waited := reply.waited(server(), request_ids):
        with read(engine()) as connection:
            reply.push(server(), load_answers(connection, list(waited)))


def nudge(agent: str, batch_ids: Iterable[str] | None = None) -> None:
    """Send an agent a message for each batch, or one where it finds its work by itself."""
    if is_behind(server(), queue(agent)):
        return  # the next tick nudges again
    for args in [()] if batch_ids is None else [(batch_id,) for batch_id in batch_ids]:
        app.send_task(f"carpool.{agent}", args, queue=queue(agent))


def show(batch_ids: Iterable[str]) -> None:
    """Show batches in Flower as they are now."""
    events.publish(app, engine(), batch_ids)
