"""The Celery tasks: thin. Each holds a lease, calls one agent, then nudges whoever comes next and tells Flower."""

from __future__ import annotations

from collections.abc import Sequence

from carpool_worker import (
    aggregator,
    budgeter,
    collector,
    courier,
    flower_events,
    followups,
    poller,
    pruner,
    rescuer,
    stager,
    submitter,
)
from carpool_worker.admission import admitted
from carpool_worker.app import app
from carpool_worker.channels import reply
from carpool_worker.connections import claude, server
from carpool_worker.database import engine, now, read, write
from carpool_worker.inbox import Inbox
from carpool_worker.lanes import Filled, Limits
from carpool_worker.leases import lease, slot
from carpool_worker.monitors import is_asked_for
from carpool_worker.nudges import Nudge
from carpool_worker.settings import settings
from carpool_worker.states import BatchState
from carpool_worker.store import batches, deliveries
from carpool_worker.windows import Windows, parse_all


def limits() -> Limits:
    """Return when a batch is full or due."""
    return Limits.of(settings())


def windows() -> Windows:
    """Return when batches may be posted."""
    return parse_all(settings().submit_windows)


@app.task(name="carpool.aggregate", base=Nudge)
def aggregate() -> None:
    """Pool what is in the inbox."""
    with lease(server(), "aggregate") as held:
        if held:
            inbox = Inbox(server(), settings().claim_interval)
            aggregator.aggregate(engine(), inbox, limits(), followups.report, settings().budgets)


@app.task(name="carpool.stage", base=Nudge)
def stage() -> None:
    """Put what is due back on its way: retries into batches, deliveries to the courier, batches to their agents."""
    with lease(server(), "stage") as held:
        if not held:
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
    with slot(server(), "submit") as free, lease(server(), f"submit:{batch_id}") as held:
        if not (free and held):
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
    with lease(server(), "poll") as held:
        if held:
            flower_events.beat(app)
            ended = poller.poll(engine(), claude())
            followups.nudge("collect", ended)


@app.task(name="carpool.rescue", base=Nudge)
def rescue() -> None:
    """Settle doubts about creates whose answer was lost."""
    with lease(server(), "rescue") as held:
        if held:
            patience = rescuer.Patience(settings().submit_timeout, settings().settle_interval)
            followups.show(rescuer.rescue(engine(), claude(), patience))


@app.task(name="carpool.prune", base=Nudge)
def prune() -> None:
    """Drop what has been kept for long enough."""
    with lease(server(), "prune") as held:
        if held:
            days = settings().params_retention_days, settings().answers_retention_days
            pruner.prune(engine(), *days)


@app.task(name="carpool.collect", base=Nudge)
def collect(batch_id: str) -> None:
    """Bring one ended batch's results in."""
    with slot(server(), "collect") as free, lease(server(), f"collect:{batch_id}") as held:
        if not (free and held):
            return

        def announce(request_ids: Sequence[str]) -> None:
            followups.answer(request_ids)
            followups.nudge("deliver")

        policy = settings().max_attempts, settings().retry_interval
        if collector.collect(engine(), claude(), batch_id, *policy, announce):
            flower_events.finish(app, engine(), batch_id)
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
    with lease(server(), "reply") as held:
        if held:
            reply.answer_waits(server(), engine())


@app.task(name="carpool.show", base=Nudge)
def show() -> None:
    """Show the newest batches to a monitor that has begun to listen."""
    if is_asked_for(server()):
        flower_events.show_newest(app, engine())
