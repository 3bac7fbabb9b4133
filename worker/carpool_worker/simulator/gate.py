"""What every call passes through: request ids, authentication, rate limits, armed faults, errors as JSON."""

import secrets

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from carpool_worker.simulator.endpoints import json_response
from carpool_worker.simulator.errors import ApiError, invalid
from carpool_worker.simulator.mishaps import suffer
from carpool_worker.simulator.simulator import SIMULATOR
from carpool_worker.simulator.workspaces import ORGANIZATION, WORKSPACE, WORKSPACE_HEADER

# What SDKs send: 2.x a Bearer token with the newer version, older ones X-Api-Key with the older.
API_VERSIONS = frozenset({"2023-06-01", "2026-10-21"})
API_PREFIX = "/v1/"
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the call its id, and convert errors to the API's error bodies."""
    request[REQUEST_ID] = f"req_01{secrets.token_hex(11)}"
    try:
        return await handler(request)
    except ApiError as error:
        refusal = error
    except msgspec.DecodeError as error:
        refusal = invalid(str(error))
    except web.HTTPException as error:
        refusal = ApiError(error.status, error.reason)
    except ConnectionError:
        return web.Response()  # to a client that has left
    await _drain(request)
    response = json_response(refusal.body(request[REQUEST_ID]))
    response.set_status(refusal.status)
    response.headers.update(refusal.headers)
    return response


@web.middleware
async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pass authenticated calls within the rate limit on to the API, unless a fault strikes them."""
    if not request.path.startswith(API_PREFIX):
        return await handler(request)
    simulator = request.app[SIMULATOR]
    key = _authenticate(request)
    request[WORKSPACE] = simulator.workspaces.of(key, request.headers.get(WORKSPACE_HEADER))
    operation = request.match_info.route.name or ""
    simulator.limit_of(operation).take()
    fault = simulator.faults.strike(operation)
    return await handler(request) if fault is None else await suffer(fault, request, handler)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every answer of the API has."""
    response.headers["request-id"] = request[REQUEST_ID]
    if request.path.startswith(API_PREFIX):
        operation = request.match_info.route.name or ""
        response.headers.update(request.app[SIMULATOR].limit_of(operation).headers())
        response.headers["anthropic-organization-id"] = ORGANIZATION


def _authenticate(request: web.Request) -> str:
    """Return the key of a call; raise ApiError if it has none, or is of an unknown version."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    is_bearer = scheme.lower() == "bearer" and bool(token.strip())
    key = token.strip() if is_bearer else request.headers.get("x-api-key")
    if not key:
        raise ApiError(401, "x-api-key header is required")
    version = request.headers.get("anthropic-version")
    if version is None:
        raise invalid("anthropic-version: header is required")
    if version not in API_VERSIONS:
        raise invalid(f'anthropic-version: "{version}" is not a valid version')
    return key


async def _drain(request: web.Request) -> None:
    """Read the rest of the body, so that a client that is still sending gets the answer."""
    async for _ in request.content.iter_any():
        pass
