"""The Celery tasks. Each takes a lock, calls one agent, then notifies the next agents and updates Flower.

Beat sends each at its tick, and sooner if there is work: see tasks/alarms.py.
"""

from __future__ import annotations

from carpool_worker.app import app
from carpool_worker.coordination.connections import claude, claudes, server
from carpool_worker.coordination.loads import want_count
from carpool_worker.coordination.locks import is_locked, lock, slot
from carpool_worker.database import engine, now, read, write
from carpool_worker.flower import events
from carpool_worker.flower.refresh import take_request
from carpool_worker.pipeline import pruner
from carpool_worker.pipeline.batching import aggregator, budgeter, canceler, deadlines, recounter, stager
from carpool_worker.pipeline.batching.lanes import Filled
from carpool_worker.pipeline.collection import collector, poller, recognition
from carpool_worker.pipeline.delivery import budget_warnings, courier
from carpool_worker.pipeline.delivery.channels import reply
from carpool_worker.pipeline.inbox import shards
from carpool_worker.pipeline.inbox.stream import Inbox
from carpool_worker.pipeline.submission import audit, call_rescuer, rescuer, submitter, turns
from carpool_worker.pipeline.submission.admission import admitted
from carpool_worker.settings import settings
from carpool_worker.states import BatchState
from carpool_worker.store import usage
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import totals
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.tasks import alarms, followups
from carpool_worker.tasks.task_class import CarpoolTask
from carpool_worker.units import DAY, Milliseconds

GATHER_SECONDS = 0.1
"""While requests keep coming, the aggregator reads the inbox this often; then it leaves its process to other tasks."""

MOST_STEPS = 100
"""In one run of the stager, of each kind of deliveries that are due; the next run does the rest."""


@app.task(name="carpool.aggregate", base=CarpoolTask)
def aggregate(name: str = shards.FIRST.name) -> None:
    """Pool the requests in a shard of the inbox into batches, and seal those that are due.

    Beat sends it for the first shard; from there it goes on to the others that have entries.
    """
    shard, one = shards.named(name), settings()
    if shard == shards.FIRST:
        others = (other for other in shards.filled(server()) if other != shard)
        followups.notify(
            "aggregate", [other.name for other in others if not is_locked(server(), other.lease)]
        )
    with lock(server(), shard.lease) as acquired:
        if not acquired:
            return
        followups.begin()
        inbox = Inbox(server(), one.claim_interval, shard)
        aggregator.aggregate(
            engine(),
            inbox,
            one.limits,
            followups.report,
            one.budgets,
            accounts=one.accounts,
            gather=GATHER_SECONDS,
        )
    alarms.wake_to_seal()


@app.task(name="carpool.stage", base=CarpoolTask)
def stage() -> None:
    """Stage requests and deliveries that are due, roll sums up, then notify the agents that have work; beat sends it.

    It also rolls up what collectors have added to the ledger. Whatever a lost message or a crash has left behind goes
    on from here.
    """
    with lock(server(), "stage") as acquired:
        if acquired:
            followups.begin()
            followups.report(Filled(refused=budgeter.release(engine(), settings().budgets)))
            followups.report(stager.stage(engine(), settings().limits))
            _call_urgent()
            if canceler.lapse(engine()):
                followups.notify("aggregate")
            for one in turns.gather_stuck(engine(), settings().submit_policy):
                followups.report(Filled(sealed=[one.batch_id], dissolved=one.dissolved))
            _stage_deliveries()
            with write(engine()) as connection:
                usage.roll_up(connection)
                totals.roll_up(connection, now())
            _notify_agents()
            alarms.wake_to_seal()
            alarms.wake_to_stage()


def _call_urgent() -> None:
    called = deadlines.call_urgent(engine(), settings().deadline_rule, settings().real_time_policy)
    followups.report(Filled(refused=called.refused, dissolved=called.dissolved))
    if called.queued:
        alarms.wake_to_call()


def _stage_deliveries() -> None:
    for step in (deliveries.stage, deliveries.rescue):
        for _ in range(MOST_STEPS):
            with write(engine()) as connection:
                if not step(connection, now()):
                    break


def _notify_agents() -> None:
    with read(engine()) as connection:
        to_submit = admitted(connection, now(), settings().submit_policy)
        to_collect = batches.due_to_collect(connection, now())
        to_deliver = deliveries.due(connection, now())
    followups.notify("submit", to_submit)
    followups.notify("collect", to_collect)
    if to_deliver:
        followups.notify("deliver")


@app.task(name="carpool.submit", base=CarpoolTask)
def submit(batch_id: str) -> None:
    """Post one sealed batch."""
    with slot(server(), "submit", app.conf.slots) as free, lock(server(), f"submit:{batch_id}") as acquired:
        if not (free and acquired):
            return
        with read(engine()) as connection:
            account = batches.account_of(connection, batch_id)
        submitted = submitter.submit(engine(), claude(account), batch_id, settings().submit_policy)
        if submitted:
            if submitted.state == BatchState.IN_PROGRESS:
                alarms.wake_to_poll()
            followups.publish([batch_id, *submitted.replacements])
            followups.notify("submit", submitted.replacements)
            if submitted.state == BatchState.REJECTED:
                want_count(server())
                followups.notify("deliver")
            if submitted.state == BatchState.SEALED:  # refused for now: its lane may be paused from here on
                followups.publish_lane_of(batch_id)
    if submitted:
        with read(engine()) as connection:
            followups.hand_on("submit", admitted(connection, now(), settings().submit_policy))
    alarms.look_again()


@app.task(name="carpool.poll", base=CarpoolTask)
def poll() -> None:
    """Poll the batches that are at Anthropic, unless the last poll was just now; beat sends it."""
    with lock(server(), "poll") as acquired:
        if acquired and alarms.may_poll():
            events.send_heartbeat(app)
            ended = poller.poll(engine(), claudes())
            followups.notify("collect", ended)
            alarms.wake_to_poll()


@app.task(name="carpool.rescue", base=CarpoolTask)
def rescue() -> None:
    """Find out whether batches in doubt were made, give up lost calls, and warn of budgets; beat sends it."""
    with lock(server(), "rescue") as acquired:
        if not acquired:
            return
        if rescued := rescuer.rescue(engine(), claudes(), settings().doubt_policy):
            followups.publish(rescued)
            alarms.wake_to_poll()
            alarms.look_again()
        followups.begin()
        call_rescuer.rescue_calls(engine(), followups.announce)
        budget_warnings.warn(engine(), settings())


@app.task(name="carpool.recount", base=CarpoolTask)
def recount() -> None:
    """Count what waits of whom, for the quotas; a door that has refused somebody has beat send it."""
    with lock(server(), "recount") as acquired:
        if acquired and (seconds := recounter.recount(engine(), server(), settings().quotas)) is not None:
            alarms.wake_to_recount(seconds)


@app.task(name="carpool.audit", base=CarpoolTask)
def audit_lists() -> None:
    """Compare Anthropic's list of the last days with the tables; beat sends it."""
    with lock(server(), "audit") as acquired:
        if acquired:
            audit.audit(engine(), claudes(), Milliseconds(now() - round(settings().audit_days * DAY)))


@app.task(name="carpool.prune", base=CarpoolTask)
def prune() -> None:
    """Drop what is past its retention; beat sends it."""
    with lock(server(), "prune") as acquired:
        if acquired:
            one = settings()
            pruner.prune(
                engine(),
                one.params_retention_days,
                one.answers_retention_days,
                one.keys_retention_days or None,
                one.requests_retention_days or None,
            )


@app.task(name="carpool.collect", base=CarpoolTask)
def collect(batch_id: str) -> None:
    """Fetch the results of one ended batch."""
    with slot(server(), "collect", app.conf.slots) as free, lock(server(), f"collect:{batch_id}") as acquired:
        if not (free and acquired):
            return
        followups.begin()
        seer = recognition.reader_of(engine(), claudes(), batch_id)
        if seer and collector.collect(
            engine(), seer, batch_id, settings().collect_policy, followups.announce
        ):
            events.publish_completed(app, engine(), batch_id)
        else:
            followups.publish([batch_id])
    with read(engine()) as connection:
        followups.hand_on("collect", batches.due_to_collect(connection, now()))
    alarms.look_again()


@app.task(name="carpool.deliver", base=CarpoolTask)
def deliver() -> None:
    """Deliver answers to their callbacks."""
    with slot(server(), "deliver", app.conf.slots) as free:
        if free:
            courier.deliver(engine(), app, settings())
            alarms.look_again()


@app.task(name="carpool.reply", base=CarpoolTask)
def answer_waits() -> None:
    """Push answers to the producers that wait for them; beat sends it."""
    with lock(server(), "reply") as acquired:
        if acquired:
            reply.answer_waits(server(), engine(), settings().requests_retention_days)


@app.task(name="carpool.show", base=CarpoolTask)
def refresh_flower() -> None:
    """Publish the newest batches to a Flower that has just subscribed."""
    if take_request(server()):
        events.publish_newest(app, engine())
