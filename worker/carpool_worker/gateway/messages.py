"""POST /v1/messages: the request goes into the inbox, and its answer comes back on the same connection, or later."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from aiohttp import web
from msgspec.structs import replace

from carpool.entries import CheckedRequest
from carpool_worker.gateway.answering import (
    CallCut,
    after_spaces,
    as_events,
    claim_headers,
    send,
    streamed,
    whole,
    within,
)
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.claims import Claim
from carpool_worker.gateway.followed import accepted, is_stored
from carpool_worker.gateway.wishes import Manner, MessageCall, read_call
from carpool_worker.money.estimates import estimate


async def create(call: Call) -> web.StreamResponse:
    """Answer a call with its Message, whole or as a stream; or with 202, if it prefers that.

    Once the body has been read the request is enqueued, even if the caller hangs up. Until its answer was handed to the
    network, an equal call gets it.
    """
    with call.gateway.place():
        manner, claim = await _begin(call)
        try:
            return await _answer(call, manner, claim)
        except CallCut:
            await call.gateway.claims.given_up(claim)
            raise
        except BaseException:
            call.gateway.claims.orphaned(claim)
            raise


async def _begin(call: Call) -> tuple[Manner, Claim]:
    """Return how a call is to be answered, and its claim; the request itself need not stay in memory meanwhile."""
    wanted = await read_call(call)
    return wanted.manner, await _accept(call, wanted)


async def _accept(call: Call, wanted: MessageCall) -> Claim:
    """Return the claim of a request that is in the inbox; hanging up meanwhile leaves it there, to be adopted."""
    enqueuing = asyncio.get_running_loop().create_task(_enqueue(call, wanted))
    try:
        return await asyncio.shield(enqueuing)
    except asyncio.CancelledError:
        enqueuing.add_done_callback(lambda done: _orphan(call, done))
        raise


def _orphan(call: Call, enqueuing: asyncio.Task[Claim]) -> None:
    if not enqueuing.cancelled() and enqueuing.exception() is None:
        call.gateway.claims.orphaned(enqueuing.result())


async def _enqueue(call: Call, wanted: MessageCall) -> Claim:
    # The id is claimed first, then the request is always appended under it: the tables have each id once.
    gateway = call.gateway
    claim = await gateway.claims.claim(wanted.claimant)
    try:
        if claim.is_keyed and claim.is_new and await is_stored(gateway, claim, wanted.request.params):
            claim = claim._replace(is_new=False)  # Redis has forgotten it
    except BaseException:
        gateway.claims.orphaned(claim)
        raise
    if claim.is_new:
        await _check_limits(call, claim, wanted.request)
    try:
        request = replace(wanted.request, id=bytes.fromhex(claim.id))
        await gateway.redis.appends.append(request)
    except BaseException:
        gateway.claims.orphaned(claim)
        raise
    return claim


async def _check_limits(call: Call, claim: Claim, request: CheckedRequest) -> None:
    # Of one that was accepted before, the answer may be there already, whatever the limits have become.
    try:
        await call.gateway.key_queues.check(call.key, claim.id)
        if call.key.budget:
            amount = estimate(request.model, request.params, datetime.now(UTC).date())
            await call.gateway.key_budgets.check(call.key, amount or 0, claim.id)
    except BaseException:
        call.gateway.claims.dropped(claim)
        raise


async def _answer(call: Call, manner: Manner, claim: Claim) -> web.StreamResponse:
    gateway, settings = call.gateway, call.gateway.settings
    # Another gateway's list is in the entry of a request that was there before.
    is_ours = claim.is_new and manner.is_replied
    silence = manner.wait if manner.is_async else settings.gateway_silence
    with gateway.replies.expecting(claim.id, call.key.client, is_ours=is_ours) as waiting:
        answer = await within(waiting, silence) if silence else None
        if answer is None and not manner.is_async:
            answer_late = as_events if manner.is_streamed else after_spaces
            return await answer_late(call, claim, waiting)
    if answer is None:
        response = accepted(call, claim.id, claim_headers(call, claim))
    elif manner.is_streamed:
        response = streamed(call, claim, answer)
    else:
        response = whole(call, claim, answer)
    await send(call.request, response)
    gateway.claims.answered(claim)
    return response
