"""Gives a call its answer: at once, after spaces, or as a stream of events."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from aiohttp import web

from carpool.contract import Answer
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.claims import Claim, rate_headers
from carpool_worker.gateway.errors import GatewayError
from carpool_worker.gateway.events import PING, error_event, events_of
from carpool_worker.gateway.outcomes import error_of, message_of, money_headers
from carpool_worker.gateway.replies import Waiting
from carpool_worker.gateway.request_id import REQUEST_ID, begin_answer

SPACE = b" "
"""JSON may begin with it (RFC 8259, section 2), so it keeps the connection alive and changes nothing."""

JSON = "application/json"


STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx passes each event on at once
}


class CallCut(GatewayError):
    """This gateway is ending before the answer has come."""

    def __init__(self) -> None:
        super().__init__(503, "This gateway is ending; the request goes on. Try again.", retry_after=1)


def json_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return an answer whose body is this JSON."""
    return web.Response(body=body, status=status, headers=headers, content_type=JSON)


def claim_headers(call: Call, claim: Claim) -> dict[str, str]:
    """Return the headers that every answer about a request has."""
    return {"x-carpool-request-id": claim.id, **rate_headers(call.key, claim)}


async def send(call: Call, response: web.Response) -> None:
    """Hand a whole answer to the network; raises ConnectionError if the caller has gone."""
    await begin_answer(call.request, response)
    await response.write_eof()


def whole(call: Call, claim: Claim, answer: Answer) -> web.Response:
    """Return the answer of a call that has not begun to be answered: the Message, or the error and its status."""
    message, headers = message_of(answer), {**claim_headers(call, claim), **money_headers(answer)}
    if message is not None:
        return json_answer(message, headers=headers)
    error = error_of(answer)
    error.headers.update(headers)
    return error.response(call.request[REQUEST_ID])


def streamed(call: Call, claim: Claim, answer: Answer) -> web.Response:
    """Return the same for a call that asks for a stream: all events at once."""
    message = message_of(answer)
    if message is None:
        return whole(call, claim, answer)
    headers = {**claim_headers(call, claim), **money_headers(answer), **STREAM_HEADERS}
    return web.Response(body=b"".join(events_of(message)), headers=headers)


async def after_spaces(call: Call, claim: Claim, waiting: Waiting) -> web.StreamResponse:
    """Answer with 200, a space now and then, and the Message.

    An error can't have its status any more: the connection is cut, and the caller's retry adopts the request.
    """
    response = web.StreamResponse(headers={**claim_headers(call, claim), "content-type": JSON})
    await _begin_waiting(call, response)
    answer = await _keeping_alive(call, response, waiting, SPACE)
    message = message_of(answer) if answer else None
    if message is None:
        await call.gateway.claims.given_up(claim)
        return cut(call.request, response)
    await response.write(message)
    await response.write_eof()
    call.gateway.claims.answered(claim)
    return response


async def as_events(call: Call, claim: Claim, waiting: Waiting) -> web.StreamResponse:
    """Answer with pings and then the events of the Message, or an `error` event."""
    response = web.StreamResponse(headers={**claim_headers(call, claim), **STREAM_HEADERS})
    await _begin_waiting(call, response)
    answer = await _keeping_alive(call, response, waiting, PING)
    if answer is None:
        await call.gateway.claims.given_up(claim)
        return cut(call.request, response)
    message = message_of(answer)
    if message is None:
        await response.write(error_event(error_of(answer).body(call.request[REQUEST_ID])))
    else:
        await response.write(b"".join(events_of(message)))
    await response.write_eof()
    call.gateway.claims.answered(claim)
    return response


def cut(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection in the middle of an answer, so that its end is missed."""
    if request.transport is not None:
        request.transport.close()
    return response


async def _begin_waiting(call: Call, response: web.StreamResponse) -> None:
    await begin_answer(call.request, response)
    # What is not needed any more is memory that each held call takes: the headers, and the timer for idle connections.
    response.headers.clear()
    call.request.protocol.keep_alive(bool(response.keep_alive))


async def _keeping_alive(
    call: Call, response: web.StreamResponse, waiting: Waiting, sign: bytes
) -> Answer | None:
    """Send a sign of life at each interval until the answer is there; return None if this gateway ends before."""
    interval = call.gateway.settings.gateway_ping_interval
    with suppress(CallCut):
        while True:
            await response.write(sign)
            if (answer := await waiting.within(interval)) is not None:
                return answer
    return None
