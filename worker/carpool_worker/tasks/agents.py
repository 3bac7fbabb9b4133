"""The Celery tasks: thin. Each holds a lock, calls one agent, then nudges whoever comes next and tells Flower."""

from __future__ import annotations

from collections.abc import Sequence

from carpool_worker.app import app
from carpool_worker.coordination.connections import claude, server
from carpool_worker.coordination.locks import lock, slot
from carpool_worker.database import engine, now, read, write
from carpool_worker.flower import events
from carpool_worker.flower.refresh import take_request
from carpool_worker.pipeline import pruner
from carpool_worker.pipeline.batching import aggregator, budgeter, stager
from carpool_worker.pipeline.batching.lanes import Filled
from carpool_worker.pipeline.collection import collector, poller
from carpool_worker.pipeline.delivery import courier
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import rescuer, submitter
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.policies.limits import Limits
from carpool_worker.policies.windows import Windows, parse_all
from carpool_worker.settings import settings
from carpool_worker.states import BatchState
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.tasks import followups
from carpool_worker.tasks.task_class import Nudge


def limits() -> Limits:
    """Return when a batch is full or due."""
    return settings().limits


def windows() -> Windows:
    """Return when batches may be posted."""
    return parse_all(settings().submit_windows)


@app.task(name="carpool.aggregate", base=Nudge)
def aggregate() -> None:
    """Pool what is in the inbox."""
    with lock(server(), "aggregate") as acquired:
        if acquired:
            inbox = Inbox(server(), settings().claim_interval)
            aggregator.aggregate(engine(), inbox, limits(), followups.report, settings().budgets)


@app.task(name="carpool.stage", base=Nudge)
def stage() -> None:
    """Put what is due back on its way: retries into batches, deliveries to the courier, batches to their agents."""
    with lock(server(), "stage") as acquired:
        if not acquired:
            return
        followups.report(Filled(refused=budgeter.release(engine(), settings().budgets)))
        followups.report(stager.stage(engine(), limits()))
        with write(engine()) as connection:
            deliveries.stage(connection, now())
            deliveries.rescue(connection, now())
        with read(engine()) as connection:
            to_submit = admitted(connection, now(), settings().queue_limit, windows=windows())
            to_collect = batches.due_to_collect(connection, now())
            to_deliver = deliveries.due(connection, now())
        followups.nudge("submit", to_submit)
        followups.nudge("collect", to_collect)
        if to_deliver:
            followups.nudge("deliver")


@app.task(name="carpool.submit", base=Nudge)
def submit(batch_id: str) -> None:
    """Post one sealed batch."""
    with slot(server(), "submit") as free, lock(server(), f"submit:{batch_id}") as acquired:
        if not (free and acquired):
            return
        one = settings()
        bounds = one.submit_timeout, one.queue_limit, windows(), one.cache_shared_prompts
        submitted = submitter.submit(engine(), claude(), batch_id, *bounds)
        if submitted:
            followups.show([batch_id, *submitted.replacements])
            followups.nudge("submit", submitted.replacements)
            if submitted.state == BatchState.REJECTED:
                followups.nudge("deliver")


@app.task(name="carpool.poll", base=Nudge)
def poll() -> None:
    """Look at the batches that are out."""
    with lock(server(), "poll") as acquired:
        if acquired:
            events.send_heartbeat(app)
            ended = poller.poll(engine(), claude())
            followups.nudge("collect", ended)


@app.task(name="carpool.rescue", base=Nudge)
def rescue() -> None:
    """Settle doubts about creates whose answer was lost."""
    with lock(server(), "rescue") as acquired:
        if acquired:
            followups.show(rescuer.rescue(engine(), claude(), settings().doubt_policy))


@app.task(name="carpool.prune", base=Nudge)
def prune() -> None:
    """Drop what has been kept for long enough."""
    with lock(server(), "prune") as acquired:
        if acquired:
            days = settings().params_retention_days, settings().answers_retention_days
            pruner.prune(engine(), *days)


@app.task(name="carpool.collect", base=Nudge)
def collect(batch_id: str) -> None:
    """Bring one ended batch's results in."""
    with slot(server(), "collect") as free, lock(server(), f"collect:{batch_id}") as acquired:
        if not (free and acquired):
            return

        def announce(request_ids: Sequence[str]) -> None:
            followups.answer(request_ids)
            followups.nudge("deliver")

        policy = settings().max_attempts, settings().retry_interval
        if collector.collect(engine(), claude(), batch_id, *policy, announce):
            events.publish_completed(app, engine(), batch_id)
        else:
            followups.show([batch_id])


@app.task(name="carpool.deliver", base=Nudge)
def deliver() -> None:
    """Bring answers to their callbacks."""
    with slot(server(), "deliver") as free:
        if free:
            courier.deliver(engine(), app, settings())


@app.task(name="carpool.reply", base=Nudge)
def answer_waits() -> None:
    """Answer the producers that wait for requests which have ended already."""
    with lock(server(), "reply") as acquired:
        if acquired:
            reply.answer_waits(server(), engine())


@app.task(name="carpool.show", base=Nudge)
def show() -> None:
    """Publish the newest batches to a Flower that has just subscribed."""
    if take_request(server()):
        events.publish_newest(app, engine())
