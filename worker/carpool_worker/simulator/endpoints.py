"""The endpoints of the Message Batches API, as Anthropic documents them (August 2026)."""

import shutil

import msgspec
from aiohttp import web

from carpool_worker.simulator.batches import SimulatedBatch
from carpool_worker.simulator.errors import ApiError, invalid, no_such_batch
from carpool_worker.simulator.intake import receive
from carpool_worker.simulator.pages import page_of
from carpool_worker.simulator.runs import BODY, RESULTS
from carpool_worker.simulator.simulator import SIMULATOR
from carpool_worker.simulator.workspaces import WORKSPACE

# The Retry-After of an unfinished batch (as captured from live traffic).
POLL_AFTER_SECONDS = 10
# The key under which the results handler stores their path, for faults that garble them.
RESULTS_PATH: web.RequestKey[str] = web.RequestKey("results_path", str)

# The key under which a fault notes that a create is performed twice.
REPEATED: web.RequestKey[bool] = web.RequestKey("repeated", bool)

routes = web.RouteTableDef()


@routes.post("/v1/messages/batches", name="create")
async def create(request: web.Request) -> web.Response:
    """Create a batch of the body's requests; their params are validated when it runs."""
    simulator = request.app[SIMULATOR]
    batch_id = simulator.registry.new_id()
    try:
        spooled = await receive(request.content, simulator.registry.folder(batch_id) / BODY)
        simulator.admit(spooled.size, request[WORKSPACE])
    except BaseException:
        simulator.registry.delete(batch_id)
        raise
    betas = request.headers.get("anthropic-beta", "")
    made = simulator.lifecycle.begin(batch_id, spooled, betas, request[WORKSPACE])
    if request.get(REPEATED):
        again, folder = simulator.registry.new_id(), simulator.registry.folder
        simulator.ledger.add_repeat(batch_id, again)
        shutil.copyfile(folder(batch_id) / BODY, folder(again) / BODY)
        simulator.lifecycle.begin(again, spooled, betas, request[WORKSPACE])
    return _answer(request, made)


@routes.get("/v1/messages/batches", name="list")
async def list_batches(request: web.Request) -> web.Response:
    """Return a page of batches, newest first."""
    batches = request.app[SIMULATOR].registry.newest_first(request[WORKSPACE])
    page, has_more = page_of(batches, request.query, no_such_batch())
    answer = {
        "data": [batch.as_answer(_origin(request)) for batch in page],
        "has_more": has_more,
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }
    return json_response(answer)


@routes.get("/v1/messages/batches/{id}", name="retrieve")
async def retrieve(request: web.Request) -> web.Response:
    """Return one batch."""
    return _answer(request, _batch(request))


@routes.post("/v1/messages/batches/{id}/cancel", name="cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a batch, which ends a little later."""
    batch = _batch(request)
    request.app[SIMULATOR].lifecycle.cancel(batch)
    return _answer(request, batch)


@routes.delete("/v1/messages/batches/{id}", name="delete")
async def delete(request: web.Request) -> web.Response:
    """Delete an ended batch."""
    batch = _batch(request)
    if batch.ended_at is None:
        raise invalid("In progress batches cannot be deleted. Consider canceling the batch instead.")
    request.app[SIMULATOR].registry.delete(batch.id)
    return json_response({"id": batch.id, "type": "message_batch_deleted"})


@routes.get("/v1/messages/batches/{id}/results", name="results")
async def results(request: web.Request) -> web.StreamResponse:
    """Return the results of an ended batch that isn't archived: a JSON line for each request, in no order."""
    batch = _batch(request)
    if not batch.has_results:
        refusal = {"x-should-retry": "false"}
        raise ApiError(404, "Message Batch ID has no available results.", headers=refusal)
    path = request.app[SIMULATOR].registry.folder(batch.id) / RESULTS
    request[RESULTS_PATH] = str(path)
    return web.FileResponse(path, chunk_size=1 << 20, headers={"content-type": "application/x-jsonl"})


def json_response(answer: object) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def _answer(request: web.Request, batch: SimulatedBatch) -> web.Response:
    response = json_response(batch.as_answer(_origin(request)))
    if batch.ended_at is None and request.method == "GET":
        response.headers["retry-after"] = str(POLL_AFTER_SECONDS)
    return response


def _batch(request: web.Request) -> SimulatedBatch:
    return request.app[SIMULATOR].registry.find(request.match_info["id"], request[WORKSPACE])


def _origin(request: web.Request) -> str:
    return request.app[SIMULATOR].results_origin or str(request.url.origin())
