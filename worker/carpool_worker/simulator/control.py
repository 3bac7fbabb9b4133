"""The control API, `/simulator/…`: it sets faults, scripts and keys, and reads the ledger.

`POST` takes one object or a list (`Fault`, `Script`), `GET` returns what is set, `DELETE` clears it.
"""

import asyncio

import msgspec
from aiohttp import web

from carpool_worker.simulator.endpoints import json_response
from carpool_worker.simulator.faults import Fault
from carpool_worker.simulator.scripts import Script
from carpool_worker.simulator.simulator import SIMULATOR
from carpool_worker.simulator.workspaces import ApiKey

routes = web.RouteTableDef()


@routes.post("/simulator/faults")
async def arm_faults(request: web.Request) -> web.Response:
    """Arm one fault or several."""
    faults = msgspec.json.decode(_listed(await request.read()), type=list[Fault])
    request.app[SIMULATOR].faults.arm(faults)
    return json_response(request.app[SIMULATOR].faults.waiting())


@routes.get("/simulator/faults")
async def armed_faults(request: web.Request) -> web.Response:
    """Return the faults that are still armed."""
    return json_response(request.app[SIMULATOR].faults.waiting())


@routes.delete("/simulator/faults")
async def disarm_faults(request: web.Request) -> web.Response:
    """Disarm all faults."""
    request.app[SIMULATOR].faults.disarm()
    return json_response(request.app[SIMULATOR].faults.waiting())


@routes.post("/simulator/scripts")
async def add_scripts(request: web.Request) -> web.Response:
    """Add one script or several."""
    scripts = msgspec.json.decode(_listed(await request.read()), type=list[Script])
    request.app[SIMULATOR].scripts.add(scripts)
    return json_response(request.app[SIMULATOR].scripts.in_force())


@routes.get("/simulator/scripts")
async def scripts_in_force(request: web.Request) -> web.Response:
    """Return the scripts in force."""
    return json_response(request.app[SIMULATOR].scripts.in_force())


@routes.delete("/simulator/scripts")
async def clear_scripts(request: web.Request) -> web.Response:
    """Remove all scripts."""
    request.app[SIMULATOR].scripts.clear()
    return json_response(request.app[SIMULATOR].scripts.in_force())


@routes.post("/simulator/keys")
async def assign_keys(request: web.Request) -> web.Response:
    """Assign one API key or several to their workspaces, or revoke them."""
    keys = msgspec.json.decode(_listed(await request.read()), type=list[ApiKey])
    request.app[SIMULATOR].workspaces.assign(keys)
    return json_response(request.app[SIMULATOR].workspaces.assigned())


@routes.post("/simulator/batches/{id}/archive")
async def archive(request: web.Request) -> web.Response:
    """Archive a batch now, 29 days early: its results are no longer available."""
    simulator = request.app[SIMULATOR]
    batch = simulator.registry.find(request.match_info["id"])
    simulator.lifecycle.archive(batch)
    return json_response(batch)


@routes.get("/simulator/ledger")
async def ledger(request: web.Request) -> web.Response:
    """Return the ledger's totals."""
    return json_response(await asyncio.to_thread(request.app[SIMULATOR].ledger.summary))


@routes.get("/simulator/ledger/repeats")
async def ledger_repeats(request: web.Request) -> web.Response:
    """Return the pairs of batches that `repeated` faults made of one post each."""
    return json_response(await asyncio.to_thread(request.app[SIMULATOR].ledger.repeats))


@routes.get("/simulator/ledger/entries")
async def ledger_entries(request: web.Request) -> web.StreamResponse:
    """Stream the ledger, a JSON line an entry."""
    response = web.StreamResponse(headers={"content-type": "application/x-jsonl"})
    await response.prepare(request)
    entries = request.app[SIMULATOR].ledger.entries()
    while chunk := await asyncio.to_thread(next, entries, b""):
        await response.write(chunk)
    await response.write_eof()
    return response


def _listed(body: bytes) -> bytes:
    return body if body.lstrip().startswith(b"[") else b"[" + body + b"]"
