"""The endpoints beside batches that programs ask: which models there are, and how many tokens a prompt has."""

import msgspec
from aiohttp import web

from carpool_worker.simulator.endpoints import json_response
from carpool_worker.simulator.errors import ApiError, invalid
from carpool_worker.simulator.models import NEWEST_FIRST, find_model, max_output_tokens
from carpool_worker.simulator.pages import page_of
from carpool_worker.simulator.params import ParamsError, read_params

routes = web.RouteTableDef()


@routes.get("/v1/models", name="list_models")
async def list_models(request: web.Request) -> web.Response:
    """Return a page of models, newest first."""
    page, has_more = page_of(NEWEST_FIRST, request.query, invalid("Invalid cursor."))
    answer = {
        "data": [model.as_answer() for model in page],
        "has_more": has_more,
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }
    return json_response(answer)


@routes.get("/v1/models/{id}", name="retrieve_model")
async def retrieve_model(request: web.Request) -> web.Response:
    """Return one model, also by its alias."""
    name = request.match_info["id"]
    model = find_model(name)
    if model is None:
        raise ApiError(404, f"model: {name}")
    return json_response(model.as_answer())


@routes.post("/v1/messages/count_tokens", name="count_tokens")
async def count_tokens(request: web.Request) -> web.Response:
    """Return how many tokens the prompt has, as its answer would be billed."""
    try:
        params = read_params(msgspec.Raw(await request.read()))
    except msgspec.DecodeError as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None
    if isinstance(params, ParamsError):
        raise invalid(params.message)
    if params.model is None:
        raise invalid("model: Field required")
    if not params.messages:
        missing = params.messages is None
        raise invalid("messages: Field required" if missing else "messages: at least one message is required")
    if max_output_tokens(params.model) is None:
        raise ApiError(404, f"model: {params.model}")
    return json_response({"input_tokens": max(params.prompt_tokens(), 1)})
