"""The gateway: calls accepted, ten thousand held, a batch as large as may be and its results, and the whole way."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import psutil
import sqlalchemy as sa
from tests.bench import gateway_calls, payloads, places
from tests.bench.agents import Agents, Servers, servers
from tests.bench.bare import timed
from tests.bench.gateway_calls import Caller
from tests.bench.meter import measured, memory, tree
from tests.bench.rows import Row, at_least, at_most
from tests.bench.whole_way import up
from tests.fixtures.gateway_processes import gateways

from carpool.contract import to_json
from carpool_worker.operations import keys

COUNT = 20_000
HELD = 10_000
CONNECTIONS = 100
WHOLE_WAY_CALLS, WHOLE_WAY_CONNECTIONS = 5_000, 1_000
BATCH_REQUESTS, BATCH_REQUEST_BYTES = 100_000, 2_480
"""A create of 252 MB."""

HELD_SECONDS = 5.0
MEGABYTE, MEBIBYTE = 1_000_000, 1_048_576

ACCEPTED_AIM, RESULTS_AIM = 12_000.0, 100_000.0
CREATE_SECONDS_AIM, CREATE_MEMORY_AIM, HELD_MEMORY_AIM = 3.0, 64.0, 256.0

SETTINGS = {
    "CARPOOL_GATEWAY_SILENCE": "1",
    "CARPOOL_GATEWAY_MOST_HELD": "20000",
    "CARPOOL_GATEWAY_DRAIN": "0",
}
ASYNC = {"prefer": "respond-async"}
BATCHES = "/v1/messages/batches"


def run(databases: Sequence[str], count: int) -> Iterator[Row]:
    """Measure all of it, on each database."""
    for kind in databases:
        with (
            servers() as beside,
            places.DATABASES[kind]() as new_database,
            places.engines(new_database, 1) as (engine,),
        ):
            yield _accepted(engine, beside, count)
            yield _held(engine, beside, min(count, HELD))
            yield from _batch(engine, beside, min(5 * count, BATCH_REQUESTS))
        yield _whole_way(kind, min(count, WHOLE_WAY_CALLS))


@contextmanager
def _gateway(engine: sa.Engine, beside: Servers) -> Iterator[tuple[Caller, psutil.Process]]:
    """Run a gateway; yield who calls it, and its process."""
    made = keys.create(engine, {"client": "bench", "name": f"bench-{time.time_ns()}"}, actor="bench")
    environment = SETTINGS | {
        "CARPOOL_REDIS_URL": places.url_of(beside.valkey),
        "CARPOOL_DATABASE_URL": engine.url.render_as_string(hide_password=False),
    }
    with (
        tempfile.TemporaryDirectory(prefix="carpool-bench-") as name,
        gateways(1, Path(name), environment) as (one,),
    ):
        yield Caller(one.url, str(made.secret)), psutil.Process(one.process.pid)
    beside.valkey.flushdb()


def _accepted(engine: sa.Engine, beside: Servers, count: int) -> Row:
    """Send calls that want a 202; rates are a core's, by the CPU seconds of the gateway and of a bare handler."""
    bodies = list(map(to_json, payloads.prose(count)))
    with _gateway(engine, beside) as (caller, process):
        caller.post_all(bodies[:CONNECTIONS], CONNECTIONS, ASYNC)  # what is done once is done
        with measured(lambda: {"gateway": tree(process)}) as spent:
            caller.post_all(bodies, CONNECTIONS, ASYNC)
    with gateway_calls.bare_server() as (caller, process), measured(lambda: {"bare": tree(process)}) as bare:
        caller.post_all(bodies, CONNECTIONS, ASYNC)
    return Row(
        "gateway, calls accepted, a core",
        engine.dialect.name,
        count,
        spent.cpu["gateway"],
        "a bare aiohttp handler",
        bare.cpu["bare"],
        peaks=spent.peaks,
        note=f"in {spent.seconds:.1f} s of the wall clock, the callers beside it",
        aims=(at_least(count / spent.cpu["gateway"], ACCEPTED_AIM, "/s a core"),),
    )


def _held(engine: sa.Engine, beside: Servers, count: int) -> Row:
    """Hold calls that nobody answers, until each has had signs of life."""
    bodies = list(map(to_json, payloads.prose(count)))
    with _gateway(engine, beside) as (caller, process), measured(lambda: {"gateway": tree(process)}) as spent:
        held = asyncio.run(caller.hold(bodies, HELD_SECONDS))
    peak = spent.peaks["gateway"] / MEGABYTE
    aims = (at_least(held, count, "calls held"), at_most(peak, HELD_MEMORY_AIM, "MB"))
    return Row(
        "gateway, calls held",
        engine.dialect.name,
        count,
        spent.seconds,
        cpu=spent.cpu,
        peaks=spent.peaks,
        aims=aims,
    )


def _batch(engine: sa.Engine, beside: Servers, count: int) -> Iterator[Row]:
    with _gateway(engine, beside) as (caller, process), tempfile.TemporaryFile() as body:
        size = _write(body, count)
        before = max(map(memory, tree(process)))
        with measured(lambda: {"gateway": tree(process)}) as spent:
            batch_id = msgspec.json.decode(caller.send(BATCHES, body, size))["id"]
        grown = (spent.peaks["gateway"] - before) / MEBIBYTE
        aims = (
            at_most(spent.seconds, CREATE_SECONDS_AIM, "s"),
            at_most(grown, CREATE_MEMORY_AIM, "MiB more"),
        )
        kind = engine.dialect.name
        yield Row(
            "gateway, batch created",
            kind,
            count,
            spent.seconds,
            cpu=spent.cpu,
            note=f"{size:,} bytes",
            aims=aims,
        )
        _finish(engine, beside)
        lines = 0

        def read() -> None:
            nonlocal lines
            lines = caller.count_lines(f"{BATCHES}/{batch_id}/results")

        seconds = timed(read)
        aim = at_least(lines / seconds, RESULTS_AIM, "lines/s")
        yield Row("gateway, results read", kind, lines, seconds, aims=(aim,))


def _write(body: IO[bytes], count: int) -> int:
    """Write a create of so many requests into a file; return its size."""
    body.write(b'{"requests":[')
    for number, params in enumerate(payloads.prose(count, BATCH_REQUEST_BYTES)):
        body.write(b"," if number else b"")
        body.write(to_json({"custom_id": f"request-{number}", "params": params}))
    body.write(b"]}")
    body.flush()
    return body.tell()


def _finish(engine: sa.Engine, beside: Servers) -> None:
    agents = Agents(engine, beside)
    agents.seal()
    agents.finish_sealed()
    agents.close()


def _whole_way(kind: str, count: int) -> Row:
    bodies = list(map(to_json, payloads.prose(count)))
    with places.simulator(), places.DATABASES[kind]() as new_database:
        url = new_database() if kind == "postgresql" else None  # else the embedded one
        with up(url) as (_, environment):
            caller = Caller(environment["ANTHROPIC_BASE_URL"], environment["ANTHROPIC_API_KEY"])
            seconds = timed(lambda: caller.post_all(bodies, WHOLE_WAY_CONNECTIONS))
    return Row("gateway, whole way", kind, count, seconds, note=f"{WHOLE_WAY_CONNECTIONS:,} calls at a time")
