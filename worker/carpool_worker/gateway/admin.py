"""/admin/v1: the keys of all clients and what each has used, for keys with the scope `admin`.

Keys that reach beyond a client's own requests are made, changed and rotated by the command line alone, so that whoever
gets hold of one of them gets no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from aiohttp import web

from carpool.contract import to_json
from carpool.exceptions import InvalidRequest
from carpool_worker.gateway.answering import json_answer
from carpool_worker.gateway.bodies import read_body, read_object
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.errors import GatewayError
from carpool_worker.gateway.usage import answer_usage, described, name_in
from carpool_worker.operations import keys as operation
from carpool_worker.operations.keys import (
    DEFAULT_GRACE,
    GraceInvalid,
    KeyNameTaken,
    KeyRevoked,
    NewSecret,
    UnknownKey,
)
from carpool_worker.policies.key_terms import KeyInvalid
from carpool_worker.policies.keys import OPERATORS, GatewayKey
from carpool_worker.views.encoding import plain
from carpool_worker.views.keys import all_keys
from carpool_worker.views.usage import DIMENSIONS

T = TypeVar("T")

MAX_BODY_BYTES = 100_000

STATUSES = {KeyInvalid: 400, GraceInvalid: 400, UnknownKey: 404, KeyNameTaken: 409, KeyRevoked: 409}
"""Of what operations raise."""

BY_COMMAND = f"Keys with one of the scopes {', '.join(sorted(OPERATORS))} are made and changed by `carpool keys` alone."


async def list_keys(call: Call) -> web.StreamResponse:
    """Answer with the keys, all or those of the `client` in the query; revoked ones if `revoked` is true."""
    client, revoked = name_in(call, "client"), call.request.query.get("revoked", "false")
    if revoked not in ("true", "false"):
        raise InvalidRequest("revoked", "must be true or false")
    found = await call.gateway.read(
        lambda connection: all_keys(connection, client, revoked=revoked == "true")
    )
    data = [{"type": "carpool_key"} | plain(one) for one in found]
    return json_answer(to_json({"data": data, "has_more": False}))


async def create_key(call: Call) -> web.StreamResponse:
    """Create a key from the fields in the body, and answer with it and its secret, this once."""
    given = read_object(await read_body(call.request, MAX_BODY_BYTES))
    _check_scopes(given)
    new = await _done(operation.create, call.gateway.engine, given, actor=_actor(call))
    return await _with_secret(call, new, 201)


async def show_key(call: Call) -> web.StreamResponse:
    """Answer with one key, and what is left of its budget."""
    return await _answer(call, await _find(call))


async def change_key(call: Call) -> web.StreamResponse:
    """Change fields of a key."""
    changes = read_object(await read_body(call.request, MAX_BODY_BYTES))
    _check_scopes(changes)
    key = await _clients_key(call)
    changed = await _done(operation.change, call.gateway.engine, key.id, changes, actor=_actor(call))
    call.gateway.keys.forget()
    return await _answer(call, changed)


async def rotate_key(call: Call) -> web.StreamResponse:
    """Give a key a new secret, and answer with it, this once; the body may name `grace`, in seconds."""
    body = await read_body(call.request, MAX_BODY_BYTES)
    given = read_object(body) if body.strip() else {}
    if unknown := given.keys() - {"grace"}:
        raise InvalidRequest(min(unknown), "there is no such field")
    grace = given.get("grace", DEFAULT_GRACE)
    if isinstance(grace, bool) or not isinstance(grace, int | float):
        raise InvalidRequest("grace", "must be a number of seconds")
    key = await _clients_key(call)
    new = await _done(operation.rotate, call.gateway.engine, key.id, float(grace), actor=_actor(call))
    call.gateway.keys.forget()
    return await _with_secret(call, new, 200)


async def revoke_key(call: Call) -> web.StreamResponse:
    """Revoke a key for good; one that is revoked stays so."""
    key = await _find(call)
    await _done(operation.revoke, call.gateway.engine, key.id, actor=_actor(call))
    call.gateway.keys.forget()
    return await _answer(call, await _find(call))


async def show_usage(call: Call) -> web.StreamResponse:
    """Answer with what was used, of all clients and keys, or of the `client` and `key` in the query."""
    return await answer_usage(call, DIMENSIONS, client=name_in(call, "client"), key=name_in(call, "key"))


async def _find(call: Call) -> GatewayKey:
    named = call.request.match_info["id"]
    try:
        return await call.gateway.read(lambda connection: operation.find(connection, named))
    except UnknownKey:
        raise GatewayError(404, "Key not found.") from None


async def _clients_key(call: Call) -> GatewayKey:
    key = await _find(call)
    if key.is_operators:
        raise GatewayError(403, BY_COMMAND)
    return key


async def _done(operate: Callable[..., T], *arguments: object, **options: object) -> T:
    try:
        return await asyncio.to_thread(operate, *arguments, **options)
    except tuple(STATUSES) as error:
        raise GatewayError(STATUSES[type(error)], str(error)) from None


async def _answer(call: Call, key: GatewayKey) -> web.StreamResponse:
    return json_answer(to_json(await call.gateway.read(lambda connection: described(connection, key))))


async def _with_secret(call: Call, new: NewSecret, status: int) -> web.StreamResponse:
    found = await call.gateway.read(lambda connection: described(connection, new.key))
    headers = {"cache-control": "no-store"}
    shown = found | {"secret": new.secret, "begins": found["secret"]}
    return json_answer(to_json(shown), status, headers)


def _check_scopes(given: Mapping[str, Any]) -> None:
    scopes = given.get("scopes")
    if isinstance(scopes, list) and any(scope in OPERATORS for scope in scopes if isinstance(scope, str)):
        raise GatewayError(403, BY_COMMAND)


def _actor(call: Call) -> str:
    return f"key:{call.key.name}"
