"""The stages by name: what each measures, on which databases and how many requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench import (
    console_pages,
    courier,
    crowded,
    disk,
    gateway,
    growth,
    hanging,
    idle,
    places,
    producer,
    quick,
    webhook_channel,
    whole_way,
)
from tests.bench.agents import COUNT, Stages, servers
from tests.bench.payloads import CORPORA
from tests.bench.progress import Bar
from tests.bench.rows import Row

from carpool_worker.app import look_for_cycles_rarely


@dataclass(frozen=True)
class Run:
    """How a stage is to be run."""

    count: int
    databases: Sequence[str]
    bar: Bar


@dataclass(frozen=True)
class Stage:
    """A stage: what it measures, how many requests it takes, and seconds that it takes at most (0: not long)."""

    run: Callable[[Run], Iterator[Row]]
    count: int
    seconds: float = 0.0

    @property
    def what(self) -> str:
        """Its description."""
        return str(self.run.__doc__).rstrip(".")


def enqueue(run: Run) -> Iterator[Row]:
    """Enqueue many at once, one by one, and from many coroutines."""
    with places.valkey() as server:
        yield from producer.run(server, run.count)


def agents(run: Run) -> Iterator[Row]:
    """Aggregate, submit and collect."""
    look_for_cycles_rarely()  # as the worker's processes do, in which the agents run
    for kind in run.databases:
        with (
            servers() as beside,
            places.DATABASES[kind]() as new_database,
            places.engines(new_database, 2) as (engine, spare),
        ):
            yield from Stages(engine, spare, beside).run(run.count)


def webhooks(run: Run) -> Iterator[Row]:
    """Deliver answers to a receiver, plain and over TLS."""
    look_for_cycles_rarely()
    for kind in run.databases:
        with (
            servers() as beside,
            places.DATABASES[kind]() as new_database,
            places.engines(new_database, 1) as (engine,),
        ):
            yield from courier.run(engine, beside, run.count)


def beside_hanging(run: Run) -> Iterator[Row]:
    """How long answers wait beside the backlog of a receiver that hangs."""
    for kind in run.databases:
        with places.DATABASES[kind]() as new_database, places.engines(new_database, 1) as (engine,):
            yield from hanging.run(engine, run.count, run.bar)


def beside_backlog(run: Run) -> Iterator[Row]:
    """How long a client's answers wait beside the backlog of another, at the same receiver."""
    for kind in run.databases:
        with places.DATABASES[kind]() as new_database, places.engines(new_database, 1) as (engine,):
            yield from crowded.run(engine, run.count, run.bar)


def channel(run: Run) -> Iterator[Row]:
    """Post answers to a receiver through the webhook channel alone, plain and over TLS."""
    return webhook_channel.run(run.count)


def sizes(run: Run) -> Iterator[Row]:
    """Bytes on disk a request, of two corpora."""
    for kind in run.databases:
        for corpus in CORPORA:
            with (
                servers() as beside,
                places.DATABASES[kind]() as new_database,
                places.engines(new_database, 1) as (engine,),
            ):
                yield disk.run(engine, beside, corpus, run.count)


def flush(run: Run) -> Iterator[Row]:
    """Requests with a flush of one second and batches of one second."""
    return quick.run(run.count, run.databases, run.bar)


def resting(run: Run) -> Iterator[Row]:
    """The CPU time of a `carpool up` with nothing to do."""
    return idle.run(run.count, run.bar)


def way(run: Run) -> Iterator[Row]:
    """Enqueue in one process and take the answers there, everything of `carpool up` in between; and the raw SDK."""
    return whole_way.run(run.count, run.databases, run.bar)


def through_the_gateway(run: Run) -> Iterator[Row]:
    """Calls that the gateway accepts and holds, a batch of 252 MB and its results, and the whole way through it."""
    look_for_cycles_rarely()
    return gateway.run(run.databases, run.count)


def million(run: Run) -> Iterator[Row]:
    """The whole way with a million requests, and the same with a tenth of them."""
    return whole_way.run_million(run.count, run.databases, run.bar)


def grown(run: Run) -> Iterator[Row]:
    """What the next requests cost on none, a million and five million finished ones."""
    look_for_cycles_rarely()
    return growth.run(run.count, run.databases, run.bar)


def console(run: Run) -> Iterator[Row]:
    """What each page of a console costs on a million requests, and a hundred pages that are open."""
    for kind in run.databases:
        yield from console_pages.run(run.count, kind, run.bar)


STAGES = {
    "enqueue": Stage(enqueue, COUNT),
    "agents": Stage(agents, COUNT),
    "webhooks": Stage(webhooks, courier.COUNT),
    "hanging": Stage(beside_hanging, hanging.COUNT),
    "crowded": Stage(beside_backlog, crowded.COUNT),
    "channel": Stage(channel, webhook_channel.COUNT),
    "disk": Stage(sizes, disk.COUNT),
    "flush": Stage(flush, quick.COUNT),
    "idle": Stage(resting, idle.SECONDS),
    "way": Stage(way, whole_way.COUNT),
    "gateway": Stage(through_the_gateway, gateway.COUNT),
    "million": Stage(million, whole_way.MILLION, whole_way.longest_seconds(whole_way.MILLION)),
    "console": Stage(console, console_pages.COUNT, console_pages.longest_seconds()),
    "growth": Stage(grown, max(growth.FINISHED), growth.longest_seconds()),
}

CAPACITY = "capacity"
"""What is computed from the other stages."""

CAPACITY_COUNT = 20_000
"""Requests of the stages that capacity is computed from, where they are run for that alone."""

DEFAULT = (*(name for name, stage in STAGES.items() if not stage.seconds), CAPACITY)
"""What runs if no stage is named."""
