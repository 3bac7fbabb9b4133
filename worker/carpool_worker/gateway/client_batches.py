"""/v1/messages/batches: what clients do with batches, on Carpool's own tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from carpool.contract import to_json
from carpool_worker.exceptions import BatchEnded, BatchInProgress, NoClientBatch, NoResults
from carpool_worker.gateway import batch_creates
from carpool_worker.gateway.answering import cut, json_answer
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.errors import AWAY, GatewayError
from carpool_worker.gateway.forwarded import public_url
from carpool_worker.gateway.request_id import begin_answer
from carpool_worker.models import ClientBatch
from carpool_worker.operations import client_batches
from carpool_worker.store.client_batches.rows import Page
from carpool_worker.store.client_batches.shown import dollars, message_batch
from carpool_worker.telemetry.logs import get_logger

POLL_AFTER_SECONDS = 10
"""The `retry-after` of a batch in progress, as the API has it."""

DEFAULT_LIMIT, MOST_LISTED = 20, 1_000
JSON_LINES = "application/x-jsonl"

log = get_logger(__name__)

T = TypeVar("T")


async def create(call: Call) -> web.StreamResponse:
    """Create a batch of the body's requests."""
    return _answer(call, await batch_creates.take(call))


async def list_all(call: Call) -> web.StreamResponse:
    """Return a page of the client's batches, newest first."""
    query = call.request.query
    limit = _limit(query.get("limit", str(DEFAULT_LIMIT)))
    cursors = {name: query[name] for name in ("after_id", "before_id") if query.get(name)}

    def page() -> Page:
        return client_batches.page(call.gateway.engine, call.key.client, limit, **cursors)

    found = await _act(page)
    shown = [message_batch(one, public_url(call)) for one in found.batches]
    answer = {
        "data": shown,
        "has_more": found.has_more,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }
    return json_answer(to_json(answer))


async def show(call: Call) -> web.StreamResponse:
    """Return one batch, as it was two seconds ago at most."""
    client, shown = call.key.client, _id(call)
    cache = call.gateway.shown_batches
    batch = cache.get(client, shown)
    if batch is None:
        batch = await _act(client_batches.retrieve, call.gateway.engine, client, shown)
        cache.put(client, shown, batch)
    answer = _answer(call, batch)
    if batch.ended_at is None:
        answer.headers["retry-after"] = str(POLL_AFTER_SECONDS)
    return answer


async def cancel(call: Call) -> web.StreamResponse:
    """Cancel a batch, which ends once those of its requests have that are under way."""
    client, shown = call.key.client, _id(call)
    batch = await _act(client_batches.cancel, call.gateway.engine, client, shown)
    call.gateway.shown_batches.forget(client, shown)
    await batch_creates.wake(call, "aggregate")
    return _answer(call, batch)


async def delete(call: Call) -> web.StreamResponse:
    """Delete an ended batch."""
    client, shown = call.key.client, _id(call)
    await _act(client_batches.delete, call.gateway.engine, client, shown)
    call.gateway.shown_batches.forget(client, shown)
    return json_answer(to_json({"id": shown, "type": "message_batch_deleted"}))


async def results(call: Call) -> web.StreamResponse:
    """Return the results of an ended batch: a JSON line for each request, in no order."""
    engine = call.gateway.engine
    plan = await _act(client_batches.plan_results, engine, call.key.client, _id(call))
    response = web.StreamResponse(headers={"content-type": JSON_LINES})
    await begin_answer(call.request, response)
    if call.request.method != "HEAD":
        pages = client_batches.results(engine, plan)
        try:
            while (page := await asyncio.to_thread(next, pages, None)) is not None:
                await response.write(page)
        except AWAY as error:
            log.warning("results cut short", error=type(error).__name__)
            return cut(call.request, response)
    await response.write_eof()
    return response


async def _act(act: Callable[..., T], *arguments: object) -> T:
    """Do something with a batch, in a thread; what can't be done is answered as the API answers it."""
    try:
        return await asyncio.to_thread(act, *arguments)
    except NoClientBatch:
        raise GatewayError(404, "Message Batch ID not found.") from None
    except BatchEnded:
        raise GatewayError(400, "Ended batches cannot be canceled.") from None
    except BatchInProgress:
        message = "In progress batches cannot be deleted. Consider canceling the batch instead."
        raise GatewayError(400, message) from None
    except NoResults:
        message = "Message Batch ID has no available results."
        raise GatewayError(404, message, should_retry=False) from None


def _answer(call: Call, batch: ClientBatch) -> web.Response:
    """Return a batch; once it has ended, with what it cost."""
    headers = {}
    if batch.ended_at is not None:
        headers["x-carpool-cost"] = dollars(batch.cost)
        headers["x-carpool-saved"] = dollars(batch.list_price - batch.cost)
    return json_answer(to_json(message_batch(batch, public_url(call))), headers=headers)


def _id(call: Call) -> str:
    return call.request.match_info["id"]


def _limit(text: str) -> int:
    try:
        limit = int(text)
    except ValueError:
        problem = "Input should be a valid integer, unable to parse string as an integer"
        raise GatewayError(400, f"limit: {problem}") from None
    if not 1 <= limit <= MOST_LISTED:
        bound = "greater than or equal to 1" if limit < 1 else f"less than or equal to {MOST_LISTED}"
        raise GatewayError(400, f"limit: Input should be {bound}")
    return limit
