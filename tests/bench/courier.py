"""Webhooks end to end, database included, plain and over TLS, against bare aiohttp posts of as many bytes.

A rate here is a core's: requests by the CPU seconds of the courier's process and the database's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection

import aiohttp
import celery
import psutil
import sqlalchemy as sa
from tests.bench import bare, payloads
from tests.bench.agents import Agents, Servers
from tests.bench.meter import measured, tree
from tests.bench.rows import Row, at_least
from tests.bench.webhook_receiver import over_either_scheme
from tests.fixtures.deliveries import WEBHOOK_SECRET

from carpool import Webhook
from carpool_worker.database import open_engine
from carpool_worker.pipeline.delivery import courier
from carpool_worker.settings import read_settings

COUNT = 10_000
AIMS = {"http": 15_000.0, "https": 8_000.0}
STAGES = {"http": "webhooks, plain", "https": "webhooks, TLS"}
BODY = b"x" * 1_500
"""About what is posted of an answer: the answer, its metadata and what it cost."""

CONNECTIONS = 20


def run(engine: sa.Engine, servers: Servers, count: int) -> Iterator[Row]:
    """Deliver `count` answers to a receiver in its own process, over either scheme."""
    for _, url in over_either_scheme():
        yield _measure(engine, servers, count, url)


def _measure(engine: sa.Engine, servers: Servers, count: int, url: str) -> Row:
    agents = Agents(engine, servers)
    agents.finish(payloads.prose(count), Webhook(url))
    agents.close()
    database_url = engine.url.render_as_string(hide_password=False)
    with _courier(database_url) as (process, pipe):
        roots = {"courier": process} | ({"postgresql": found} if (found := agents.postmaster) else {})
        with measured(lambda: {name: tree(root) for name, root in roots.items()}) as spent:
            pipe.send("begin")
            delivered = pipe.recv()
    if not delivered:
        raise AssertionError(f"none of {count:,} were delivered")
    note = f"{count - delivered:,} were deferred" if delivered < count else ""  # the machine is busy
    bare_seconds = bare.timed(lambda: asyncio.run(post_bare(url, delivered)))
    scheme = url.partition(":")[0]
    a_core = at_least(delivered / sum(spent.cpu.values()), AIMS[scheme], "/s a core")
    what = "aiohttp posts of as many bytes"
    row = Row(
        STAGES[scheme], engine.dialect.name, delivered, spent.seconds, what, bare_seconds, cpu=spent.cpu
    )
    return replace(row, peaks=spent.peaks, note=note, aims=(a_core,))


@contextmanager
def _courier(database_url: str) -> Iterator[tuple[psutil.Process, Connection]]:
    """Run a courier in a process of its own, which reads at its start which authorities it trusts."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_deliver, args=(database_url, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield psutil.Process(process.pid), ours
    finally:
        process.terminate()
        process.join()


def _deliver(database_url: str, pipe: Connection) -> None:
    settings = read_settings(webhook_secret=WEBHOOK_SECRET, webhook_allowed_networks="127.0.0.0/8")
    engine = open_engine(database_url)
    pipe.send("ready")
    pipe.recv()
    pipe.send(courier.deliver(engine, celery.Celery(broker="memory://"), settings))
    pipe.recv()  # until the last look at this process


async def post_bare(url: str, count: int) -> None:
    """Post as many bytes with aiohttp, unsigned."""
    waiting = iter(range(count))

    async def post(session: aiohttp.ClientSession) -> None:
        for _ in waiting:
            async with session.post(url, data=BODY) as response:
                await response.read()

    trusted = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    async with aiohttp.ClientSession(connector=trusted) as session:
        await asyncio.gather(*(post(session) for _ in range(CONNECTIONS)))
