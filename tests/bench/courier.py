"""Webhooks end to end, database included, against bare aiohttp posts of the same bytes in the same run."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import celery
import sqlalchemy as sa
from tests.bench.rows import Row
from tests.bench.webhook_receiver import receiving
from tests.fixtures.deliveries import WEBHOOK_SECRET, completed_request

from carpool.contract import mint_id, to_json
from carpool_worker import database
from carpool_worker.models import AnswerRow, Request
from carpool_worker.pipeline.delivery import courier
from carpool_worker.settings import read_settings
from carpool_worker.store.deliveries import rows as deliveries
from carpool_worker.store.requests.answers import load_answers

AIM = 6_000.0
TEXT = "A sentence of an answer, about sixty characters long, no more. " * 25
RESULT = to_json(
    {"type": "succeeded", "message": {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}}
)


def run(engine: sa.Engine, count: int = 10_000) -> list[Row]:
    """Deliver `count` answers of about 2 KB to a receiver in its own process; the engine's tables must be empty."""
    with receiving() as port:
        url = f"http://127.0.0.1:{port}/claude"
        ids = _fill(engine, url, count)
        cpu = time.process_time()
        seconds = _deliver(engine, count)
        cpu = time.process_time() - cpu
        bare_seconds = asyncio.run(_post_bare(url, _bodies(engine, ids)))
    name = f"webhooks ({engine.dialect.name})"
    return [Row(name, count, seconds, "aiohttp posts of the same bytes", bare_seconds, AIM, cpu)]


def _fill(engine: sa.Engine, url: str, count: int) -> list[str]:
    callback = to_json({"kind": "webhook", "url": url}).decode()
    now = database.now()
    ids = [mint_id("bench") for _ in range(count)]
    rows = [completed_request(id_, now, client="bench", callback=callback, params_bytes=2_000) for id_ in ids]
    with database.write(engine) as connection:
        connection.execute(sa.insert(Request), rows)
        connection.execute(sa.insert(AnswerRow), [{"request_id": id_, "body": RESULT} for id_ in ids])
        deliveries.insert(connection, [(id_, callback) for id_ in ids], now)
    return ids


def _deliver(engine: sa.Engine, count: int) -> float:
    settings = read_settings(webhook_secret=WEBHOOK_SECRET, webhook_allowed_networks="127.0.0.0/8")
    start = time.perf_counter()
    delivered = courier.deliver(engine, celery.Celery(broker="memory://"), settings)
    seconds = time.perf_counter() - start
    if delivered != count:
        raise AssertionError(f"{delivered:,} of {count:,} were delivered")
    return seconds


def _bodies(engine: sa.Engine, ids: list[str]) -> list[bytes]:
    with database.read(engine) as connection:
        answers = load_answers(connection, ids[:1_000])
    bodies = [to_json(answer) for answer in answers.values()]
    return [bodies[number % len(bodies)] for number in range(len(ids))]


async def _post_bare(url: str, bodies: list[bytes]) -> float:
    waiting = iter(bodies)

    async def post(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            async with session.post(url, data=body) as response:
                await response.read()

    async with aiohttp.ClientSession() as session:
        start = time.perf_counter()
        await asyncio.gather(*(post(session) for _ in range(20)))
        return time.perf_counter() - start
