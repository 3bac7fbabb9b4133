"""Requests by their ids: what becomes of those that were answered with 202, or that their client asks for again."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

import msgspec
import sqlalchemy as sa
from aiohttp import web

from carpool.cancellation import CancelCommand
from carpool.contract import REQUEST_ID as ID_FORM
from carpool.contract import Answer, Delivery, to_json
from carpool_worker.coordination.keys import GATEWAY_ACCEPTED
from carpool_worker.gateway.answering import json_answer
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.claims import Claim, calls_of
from carpool_worker.gateway.errors import AWAY, GatewayError, key_reused, not_found
from carpool_worker.gateway.forwarded import PREFIX
from carpool_worker.gateway.preferences import preferences, preferred_wait
from carpool_worker.gateway.state import Gateway
from carpool_worker.gateway.written import WrittenAnswer, write_json
from carpool_worker.store.requests import intake, rows
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.views import requests as views
from carpool_worker.views.encoding import plain

POLL_SECONDS = "10"
"""The `Retry-After` of a request that has not ended."""

QUEUED = "queued"
"""The state of a request that is still in the inbox."""

ROUTE = "/v1/carpool/requests"

MOST_LISTED, LISTED = 1_000, 20


class Standing(NamedTuple):
    """A request of the caller's client: its state, and its answer once it has ended."""

    state: str
    answer: Answer | None


async def is_stored(gateway: Gateway, claim: Claim, params: bytes) -> bool:
    """Return whether the tables have the request of a claim with an idempotency key.

    Raises:
        GatewayError: 422, it had other params.
    """

    def stored(connection: sa.Connection) -> bytes | None:
        return rows.known(connection, [claim.id]).get(claim.id)

    digest = await gateway.read(stored)
    if digest is not None and digest != intake.digest(params):
        await gateway.commands.run(("DEL", calls_of(claim)))
        raise key_reused()
    return digest is not None


async def known_answer(call: Call, request_id: str) -> Answer | None:
    """Return the answer to a request that was there before, if the tables have it; None also where they can't be asked.

    A worker that is asked for it takes its time, and by then the answer to this call may have begun.
    """

    def load(connection: sa.Connection) -> Answer | None:
        return load_answers(connection, [request_id], call.key.client).get(request_id)

    try:
        return await call.gateway.read(load)
    except AWAY:
        return None


def accepted(call: Call, request_id: str, headers: Mapping[str, str], state: str = QUEUED) -> web.Response:
    """Return the 202 of a request that has not ended."""
    return json_answer(_accepted_body(request_id, state), 202, _accepted_headers(call, request_id, headers))


def write_accepted(call: Call, request_id: str, headers: Mapping[str, str]) -> WrittenAnswer:
    """Write the same, for a request that was just enqueued; raises ConnectionError if the caller has gone."""
    found = _accepted_headers(call, request_id, headers)
    return write_json(call.request, HTTPStatus.ACCEPTED, found, _accepted_body(request_id, QUEUED))


def _accepted_headers(call: Call, request_id: str, headers: Mapping[str, str]) -> dict[str, str]:
    found = {
        "location": f"{call.request[PREFIX]}{ROUTE}/{request_id}",
        "retry-after": POLL_SECONDS,
        "x-carpool-request-id": request_id,
        **headers,
    }
    if call.request.method == "POST" and (applied := _applied(preferences(call))):
        found["preference-applied"] = applied
    return found


def _accepted_body(request_id: str, state: str) -> bytes:
    return to_json({"id": request_id, "type": "carpool_request", "state": state})


async def show(call: Call) -> web.Response:
    """Answer GET …/requests/{id}: 202 while the request is open, then what its webhook gets.

    `Prefer: wait=60` waits so long for its end.
    """
    request_id = _named(call)
    standing = await _standing(call, request_id)
    if standing.answer is None and (seconds := preferred_wait(call)):
        waiting = call.gateway.replies.expect(request_id, call.key.client, is_ours=False)
        try:
            answer = await waiting.within(seconds)
        finally:
            call.gateway.replies.leave(request_id, waiting)
        standing = Standing(answer.state, answer) if answer else await _standing(call, request_id)
    if standing.answer is None:
        return accepted(call, request_id, {}, standing.state)
    return json_answer(_delivery(standing.answer))


async def cancel(call: Call) -> web.Response:
    """Answer POST …/requests/{id}/cancel: 202, or what its webhook got if it has ended."""
    request_id = _named(call)
    standing = await _standing(call, request_id)
    if standing.answer is not None:
        return json_answer(_delivery(standing.answer))
    gateway = call.gateway
    command = CancelCommand(gateway.options_of(call.key.client), [request_id])
    command.confirm(await gateway.redis.execute(command.commands()))
    return accepted(call, request_id, {}, "canceling")


async def list_all(call: Call) -> web.Response:
    """Answer GET …/requests: the newest requests of the key's client, newest last; `before` and `after` are ids."""
    query, gateway = call.request.query, call.gateway
    limit = _limit(query.get("limit"))
    ends = [query.get("before"), query.get("after")]
    for name, end in zip(("before", "after"), ends, strict=True):
        if end is not None:
            await _standing(call, _checked_id(end, name))
    wanted = views.RequestFilter(client=call.key.client)

    def page(connection: sa.Connection) -> list[views.RequestView]:
        return views.page(connection, gateway.settings, wanted, limit, *ends)

    found = await gateway.read(page)
    return json_answer(to_json({"data": [plain(one) for one in found], "has_more": len(found) == limit}))


async def _standing(call: Call, request_id: str) -> Standing:
    client = call.key.client

    def look(connection: sa.Connection) -> Standing | None:
        answer = load_answers(connection, [request_id], client).get(request_id)
        if answer is not None:
            return Standing(answer.state, answer)
        state = rows.state_of(connection, request_id, client)
        return None if state is None else Standing(state.value, None)

    if (found := await call.gateway.read(look)) is not None:
        return found
    owner = await call.gateway.commands.run(("GET", GATEWAY_ACCEPTED + request_id))
    if owner == client.encode():
        return Standing(QUEUED, None)
    raise not_found("Request")


def _named(call: Call) -> str:
    request_id = call.request.match_info["id"]
    if not ID_FORM.fullmatch(request_id):
        raise not_found("Request")
    return request_id


def _checked_id(given: str, name: str) -> str:
    if not ID_FORM.fullmatch(given):
        raise GatewayError(400, f"{name}: must be the id of a request")
    return given


def _limit(given: str | None) -> int:
    if given is None:
        return LISTED
    if not given.isascii() or not given.isdigit() or not 1 <= int(given[:9]) <= MOST_LISTED:
        raise GatewayError(400, f"limit: must be an integer from 1 to {MOST_LISTED:,}")
    return int(given)


def _delivery(answer: Answer) -> bytes:
    data = msgspec.Raw(to_json(answer))
    return to_json(Delivery(type=f"request.{answer.state}", timestamp=answer.finished_at, data=data))


def _applied(prefer: Mapping[str, str]) -> str:
    if not prefer:
        return ""
    names = [name for name in ("respond-async", "wait") if name in prefer]
    return ", ".join(f"{name}={prefer[name]}" if prefer[name] else name for name in names)
