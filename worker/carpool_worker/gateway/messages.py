"""POST /v1/messages: the request goes into the inbox, and its answer comes back on the same connection, or later."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

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
)
from carpool_worker.gateway.bodies import read_body
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.claims import Claim
from carpool_worker.gateway.connections import give_back_buffer
from carpool_worker.gateway.followed import accepted, is_stored, known_answer, write_accepted
from carpool_worker.gateway.wishes import Manner, check_call, read_headers
from carpool_worker.gateway.written import is_possible
from carpool_worker.money.estimates import estimate


async def create(call: Call) -> web.StreamResponse:
    """Answer a call with its Message, whole or as a stream; or with 202, if it prefers that.

    Once the body has been read the request is enqueued, even if the caller hangs up. Until its answer was handed to the
    network, an equal call gets it.
    """
    gateway = call.gateway
    gateway.take_place()
    try:
        manner, claim = await _begin(call)
        try:
            return await _answer(call, manner, claim)
        except CallCut:
            await gateway.claims.given_up(claim)
            raise
        except BaseException:
            gateway.claims.orphaned(claim)
            raise
    finally:
        gateway.leave_place()


async def _begin(call: Call) -> tuple[Manner, Claim]:
    """Return how a call is to be answered, and its claim; the request itself need not stay in memory meanwhile."""
    headers, key = read_headers(call), call.key
    body = await read_body(call.request)
    give_back_buffer(call.request)
    async with call.gateway.preparing:
        wanted = check_call(call, headers, body)
        del body
        request = wanted.request
        if key.most_queued is not None:
            request = replace(request, most_queued=key.most_queued)
        check = partial(_check, call) if wanted.claimant.is_keyed or key.budget else None
        claim = await call.gateway.acceptances.accept(wanted.claimant, request, check)
    return wanted.manner, claim


async def _check(call: Call, claim: Claim, request: CheckedRequest) -> Claim:
    """Check a request that seems to be new: whether it is, and whether it may be enqueued."""
    gateway = call.gateway
    try:
        if claim.is_keyed and await is_stored(gateway, claim, request.params):
            return claim._replace(is_new=False)  # Redis has forgotten it
    except BaseException:
        gateway.claims.orphaned(claim)
        raise
    await _check_limits(call, claim, request)
    return claim


async def _check_limits(call: Call, claim: Claim, request: CheckedRequest) -> None:
    # Of one that was accepted before, the answer may be there already, whatever the limits have become.
    try:
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
    if manner.is_async and not silence:
        return await _answer_at_once(call, claim)
    answer = None if claim.is_new else await known_answer(call, claim.id)
    if answer is None:
        waiting = gateway.replies.expect(claim.id, call.key.client, is_ours=is_ours)
        try:
            answer = await waiting.within(silence) if silence else None
            if answer is None and not manner.is_async:
                answer_late = as_events if manner.is_streamed else after_spaces
                return await answer_late(call, claim, waiting)
        finally:
            gateway.replies.leave(claim.id, waiting)
    if answer is None:
        response = accepted(call, claim.id, claim_headers(call, claim))
    elif manner.is_streamed:
        response = streamed(call, claim, answer)
    else:
        response = whole(call, claim, answer)
    return await _finish(call, claim, response)


async def _answer_at_once(call: Call, claim: Claim) -> web.StreamResponse:
    headers = claim_headers(call, claim)
    if not is_possible(call.request):
        return await _finish(call, claim, accepted(call, claim.id, headers))
    response = write_accepted(call, claim.id, headers)
    call.gateway.claims.answered(claim)
    return response


async def _finish(call: Call, claim: Claim, response: web.Response) -> web.Response:
    await send(call, response)
    call.gateway.claims.answered(claim)
    return response
