"""Try it: a request written by hand, its way, its webhook, and faults to practise. Beside a simulator only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar

from aiohttp import web

from carpool import CarpoolError, InvalidRequest, Producer, Webhook
from carpool.contract import REQUEST_ID
from carpool_worker.console.filters import check_known
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter, NotHere, PageRefused
from carpool_worker.console.simulators import simulator_url
from carpool_worker.console.users import Role
from carpool_worker.database import read
from carpool_worker.processes.practices import KINDS
from carpool_worker.settings import Settings
from carpool_worker.simulator import Fault, RemoteSimulator, Script
from carpool_worker.simulator.kinds import KINDS as PRACTICES
from carpool_worker.views import lookup, requests
from carpool_worker.views.requests import RequestDetails
from carpool_worker.views.signed_webhooks import SignedWebhook, signed_webhook

T = TypeVar("T")

SAMPLE = {
    "model": "claude-haiku-4-5",
    "max_tokens": 256,
    "messages": [{"role": "user", "content": "Say hello in five languages."}],
}
LONGEST = 100_000
"""Characters of params that may be written here."""


@dataclass(frozen=True)
class Armed:
    """What goes wrong at the simulator now; not `reachable`: it does not answer."""

    faults: Sequence[Fault] = ()
    scripts: Sequence[Script] = ()
    reachable: bool = True


async def show(page: PageCall) -> web.StreamResponse:
    """Answer with the form, and with the way of the request that was enqueued last."""
    check_known(page.query, ("id",))
    return await _draw(page, json.dumps(SAMPLE, indent=2))


async def enqueue(page: PageCall) -> web.StreamResponse:
    """Enqueue what was written, checked as a producer checks it."""
    _simulator()
    form = await page.form()
    text, client, callback = form.get("params", ""), form.get("client", ""), form.get("callback", "").strip()
    if len(text) > LONGEST:
        raise BadFilter(f"params: this page takes {LONGEST:,} characters at most; a Producer takes more")
    try:
        params = json.loads(text)
    except ValueError as error:
        return await _draw(page, text, client, callback, wrong=f"params: not JSON: {error}")
    settings = page.console.settings
    try:
        id_ = await page.act(
            "enqueue", f"a request of client {client}", lambda: _enqueue(settings, client, params, callback)
        )
    except (InvalidRequest, TypeError) as error:
        return await _draw(page, text, client, callback, wrong=str(error))
    except CarpoolError as error:
        return await _draw(page, text, client, callback, wrong=str(error), status=503)
    return page.see(f"/try?id={id_}", "Enqueued.")


async def webhook(page: PageCall) -> web.StreamResponse:
    """Answer with the webhook that brings an answer, as it would be sent now."""
    _simulator()
    id_ = (await page.form()).get("id", "")
    if not REQUEST_ID.fullmatch(id_):
        raise NotHere("There is no such request.")
    general = [secret.get_secret_value() for secret in page.console.settings.webhook_secret]
    engine = page.console.engine

    def ask() -> SignedWebhook:
        with read(engine) as connection:
            return signed_webhook(connection, id_, general)

    found = await page.act("reveal", f"the webhook of request {id_}", ask, role=Role.REVEAL)
    body = json.dumps(json.loads(found.body), indent=2, ensure_ascii=False)
    return page.draw("webhook.html", id=id_, headers=found.headers, body=body)


async def arm(page: PageCall) -> web.StreamResponse:
    """Arm a fault of the simulator by its name."""
    name = (await page.form()).get("fault", "")
    if name not in PRACTICES:
        raise BadFilter(f"fault: there is no {name!r}; there are {', '.join(PRACTICES)}")
    practice, simulator = PRACTICES[name], _simulator()

    def act() -> None:
        if practice.faults:
            simulator.arm(*practice.faults)
        if practice.scripts:
            simulator.script(*practice.scripts)

    await page.act("arm", f"the fault {name} at the simulator", lambda: _asked(act))
    return page.see("/try#faults", f"Armed: {KINDS[name]}.")


async def disarm(page: PageCall) -> web.StreamResponse:
    """Disarm all faults of the simulator."""
    simulator = _simulator()

    def act() -> None:
        simulator.disarm()
        simulator.clear_scripts()

    await page.act("disarm", "all faults at the simulator", lambda: _asked(act))
    return page.see("/try#faults", "All faults are disarmed.")


async def _draw(
    page: PageCall,
    params: str,
    client: str = "default",
    callback: str = "",
    wrong: str = "",
    status: int = 400,
) -> web.StreamResponse:
    simulator = _simulator()
    id_ = page.query.get("id")
    return page.draw(
        "try_it.html",
        http_status=status if wrong else 200,
        params=params,
        client=client,
        callback=callback,
        wrong=wrong,
        id=id_,
        found=await _followed(page, id_) if id_ else None,
        armed=await page.console.run(lambda: _armed(simulator)),
        kinds=KINDS,
    )


async def _followed(page: PageCall, id_: str) -> RequestDetails | None:
    """Return a request; None while a worker has not taken it out of the inbox."""
    if not REQUEST_ID.fullmatch(id_):
        raise BadFilter("id: must be the id of a request, 32 hexadecimal digits")
    settings = page.console.settings
    try:
        return await page.console.read(lambda connection: requests.find(connection, settings, id_))
    except lookup.UnknownId:
        return None


def _enqueue(settings: Settings, client: str, params: Any, callback: str) -> str:
    if not isinstance(params, Mapping):
        raise InvalidRequest("params", "must be a JSON object")
    hook = Webhook(callback) if callback else None
    producer = Producer(
        settings.redis_url,
        client=client or None,
        inbox_shards=settings.inbox_shards,
        key_prefix=settings.key_prefix,
    )
    with producer:
        return producer.enqueue(params, callback=hook)


def _simulator() -> RemoteSimulator:
    url = simulator_url()
    if url is None:
        raise NotHere("This page is for `carpool up` with its simulator: here requests would cost money.")
    return RemoteSimulator(url)


def _armed(simulator: RemoteSimulator) -> Armed:
    try:
        return Armed(simulator.waiting_faults(), simulator.scripts_in_force())
    except (OSError, HTTPException, RuntimeError):
        return Armed(reachable=False)


def _asked(act: Callable[[], T]) -> T:
    try:
        return act()
    except (OSError, HTTPException) as error:
        raise PageRefused(503, "The simulator does not answer: see .carpool/logs/simulator.log.") from error
