"""The Messages API: a single request, answered at once and billed at the full price."""

import asyncio
import random
import secrets

import msgspec
from aiohttp import web

from carpool_worker.simulator.endpoints import json_response
from carpool_worker.simulator.errors import ERROR_TYPES, ApiError, invalid
from carpool_worker.simulator.ledger import LedgerEntry
from carpool_worker.simulator.params import ParamsError, SimulatedParams, find_message_error, read_params
from carpool_worker.simulator.results import Errored, SimulatedMessage, Succeeded
from carpool_worker.simulator.simulator import SIMULATOR, Simulator

routes = web.RouteTableDef()

STATUSES = {error_type: status for status, error_type in ERROR_TYPES.items() if status != 405}

OVERLOADED = ApiError(529, "Overloaded")
"""For scripts with an outcome that only requests of a batch have."""


@routes.post("/v1/messages", name="messages")
async def create_message(request: web.Request) -> web.Response:
    """Answer one request. The ledger has it under its Idempotency-Key, by which a request is known that ran twice."""
    simulator = request.app[SIMULATOR]
    params = _read(await request.read())
    await asyncio.sleep(_drawn(simulator.message_latency))
    custom_id = request.headers.get("idempotency-key") or secrets.token_hex(16)
    answer = await asyncio.to_thread(_run, simulator, custom_id, params)
    return json_response(answer)


def _read(body: bytes) -> SimulatedParams:
    try:
        params = read_params(msgspec.Raw(body))
    except msgspec.DecodeError as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None
    if isinstance(params, ParamsError):
        raise _refusal(params)
    if problem := find_message_error(params):
        raise _refusal(problem)
    return params


def _refusal(problem: ParamsError) -> ApiError:
    return ApiError(STATUSES[problem.type], problem.message)


def _drawn(latency: float | tuple[float, float]) -> float:
    return latency if isinstance(latency, int | float) else random.uniform(*latency)  # noqa: S311


def _run(simulator: Simulator, custom_id: str, params: SimulatedParams) -> SimulatedMessage:
    number = secrets.token_hex(11)
    result = simulator.runs.answer(custom_id, number, params)
    if isinstance(result, Errored):
        error = result.error.error
        raise ApiError(STATUSES.get(error.type, 500), error.message)
    if not isinstance(result, Succeeded):
        raise OVERLOADED
    message = result.message
    message.usage.service_tier = "standard"
    usage = message.usage
    written, read = usage.cache_creation_input_tokens, usage.cache_read_input_tokens
    tokens = usage.input_tokens, usage.output_tokens, written, read
    simulator.ledger.add(LedgerEntry(message.id, custom_id, params.model, "succeeded", None, *tokens))
    return message
