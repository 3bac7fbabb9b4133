"""The Celery app: its queues, beat's schedule, and Celery's settings as a careful operator would choose them.

The tables are the truth, and a message only wakes an agent, which reads them: each task takes ids or nothing, may run
twice and may be lost. Beat's ticks drive each state on from what the tables hold; alarms that the tasks set, and what
producers enqueue, make beat send them sooner.
"""

from __future__ import annotations

import gc
from typing import Any

from celery import Celery, signals
from kombu.entity import Exchange, Queue

from carpool_worker.coordination.broker_urls import broker_settings
from carpool_worker.coordination.keys import EXCHANGE, QUEUES, queue
from carpool_worker.settings import Settings, settings

HEARTBEAT_SECONDS = 1.0
"""Seconds between beat's signs of life, at most."""

TICK = 10.0
"""Seconds between ticks of the aggregator and the stager, at most. Beat sends them sooner when there is
work (see coordination/wakeups.py), so these find only what was missed."""

REPLY_INTERVAL = 60.0
"""Seconds between ticks of the replies, at most: beat itself sees each second whether a producer waits."""

RETRY_SECONDS = 1.0
"""Until beat sends a task again that found the database or Redis away."""

CALL_INTERVAL = 5.0
"""Seconds between ticks of the calls in real time, at most: whoever puts one into their queue sends it at once."""

RESCUE_INTERVAL = 10.0
PRUNE_INTERVAL = 60.0
"""Seconds between ticks of the rescuer, at most, and of the pruner."""

RECOUNT_INTERVAL = 60.0
"""Seconds between counts of what waits, at most."""

AUDIT_INTERVAL = 3_600.0
"""Seconds between audits of Anthropic's list."""

MOST_MEMORY = 200_000
"""Kilobytes of resident memory; a child that has more is replaced when its task is done."""

SHUTDOWN_TIMEOUT = 30.0
"""Seconds that running tasks have to end after the first SIGTERM."""


def configuration(settings: Settings) -> dict[str, Any]:
    """Return Celery's settings."""
    return _broker(settings) | _messages() | _worker(settings) | _beat(settings)


def _broker(settings: Settings) -> dict[str, Any]:
    broker = broker_settings(settings.broker, settings.key_prefix)
    return {
        "broker_url": broker.url,
        "broker_use_ssl": broker.ssl,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,  # a refusal, such as of a Redis that is full or a replica, ends no worker
        "broker_transport_options": broker.options,
        "control_exchange": EXCHANGE,
        "event_exchange": f"{EXCHANGE}.events",
        "event_queue_prefix": f"{EXCHANGE}.events",
        "task_default_queue": queue("aggregate"),
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
    }


def _messages() -> dict[str, Any]:
    return {
        "result_backend": None,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "event_serializer": "json",
        "task_acks_late": True,
        "enable_utc": True,
    }


def _worker(settings: Settings) -> dict[str, Any]:
    return {
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_soft_shutdown_timeout": SHUTDOWN_TIMEOUT,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_max_memory_per_child": MOST_MEMORY,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "slots": 1,  # our own, as the next; set by the worker, which knows how many processes it has
        "is_ending": None,
        "task_time_limit": max(
            settings.submit_timeout * 2, settings.webhook_timeout, settings.real_time_timeout * 2
        )
        + 60,
    }


def _beat(settings: Settings) -> dict[str, Any]:
    return {"beat_schedule": schedule(settings), "beat_max_loop_interval": HEARTBEAT_SECONDS}


def schedule(settings: Settings) -> dict[str, Any]:
    """Return beat's schedule: how long each task may not have been sent."""
    ticks = {
        "aggregate": ("aggregate", TICK),
        "reply": ("deliver", REPLY_INTERVAL),
        "stage": ("poll", TICK),
        "call": ("call", CALL_INTERVAL),
        "poll": ("poll", settings.poll_interval),
        "rescue": ("poll", min(RESCUE_INTERVAL, settings.settle_interval)),
        "prune": ("poll", PRUNE_INTERVAL),
        "recount": ("poll", RECOUNT_INTERVAL),
        "audit": ("poll", AUDIT_INTERVAL),
    }
    return {
        f"carpool.{task}": {
            "task": f"carpool.{task}",
            "schedule": every,
            "options": {"queue": queue(agent)},
        }
        for task, (agent, every) in ticks.items()
    }


def inquirer(settings: Settings) -> Celery:
    """Return an app by which this process asks the workers of these settings something; use it in a with statement."""
    asking = Celery("carpool", set_as_current=False)
    asking.config_from_object(_broker(settings))
    return asking


app = Celery("carpool")  # only the worker imports the tasks; beat and Flower need no more than their names
app.config_from_object(configuration(settings()))


@signals.setup_logging.connect
def _log(loglevel: int, **_: Any) -> None:
    from carpool_worker.telemetry import logs

    logs.begin(settings().log_format, loglevel)  # in place of Celery's own lines


GC_THRESHOLDS = (50_000, 20, 50)
"""Objects made since the last look for cycles, then how many of those go before a look at older objects."""


def look_for_cycles_rarely() -> None:
    """Let the garbage collector look at few objects, and seldom.

    What is loaded by now stays, so it need not be searched; and agents make tens of thousands of short-lived objects a
    second without cycles: with Python's defaults, looking for cycles among them takes a fifth of their time.
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


@signals.worker_process_init.connect
def _after_fork(**_: Any) -> None:
    from carpool_worker.database import dispose_after_fork  # beat and Flower do without a database

    dispose_after_fork()
    look_for_cycles_rarely()
