"""What is done about a receiver: stop it, start it, send again what it did not take, and send it a sample."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from carpool_worker.console import filters
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter
from carpool_worker.formatting import counted
from carpool_worker.operations import endpoints, replay, samples
from carpool_worker.views.deliveries import DeliveryFilter
from carpool_worker.views.endpoints import receivers

WEBHOOK = ("http://", "https://")
LONGEST_REASON = 200
A_DAY = "24h"


async def stop(page: PageCall) -> web.StreamResponse:
    """Stop deliveries to a URL."""
    url, form = await _receiver(page), await page.form()
    reason = " ".join(form.get("reason", "").split())[:LONGEST_REASON] or "stopped at the console"
    actor = page.user.name
    await page.act(
        "stop receiver",
        url,
        lambda: endpoints.stop(page.console.engine, url, reason, actor=actor),
        {"reason": reason},
    )
    return await _seen(page, f"Nothing is sent to {url} until it is started.")


async def start(page: PageCall) -> web.StreamResponse:
    """Allow deliveries to a URL again."""
    url, actor = await _receiver(page), page.user.name
    await page.act("start receiver", url, lambda: endpoints.start(page.console.engine, [url], actor=actor))
    return await _seen(page, f"{url} gets answers again. Its dead letters stay until they are replayed.")


async def replay_since(page: PageCall) -> web.StreamResponse:
    """Send again what a receiver did not take, and start it."""
    target, form = await _receiver(page), await page.form()
    given = filters.read_fields({"since": form.get("since", "")}, {"since": filters.since})
    wanted, actor = DeliveryFilter(target=target, since=given.get("since")), page.user.name
    done = await page.act(
        "replay",
        f"deliveries to {target}",
        lambda: replay.replay(page.console.engine, wanted, actor=actor),
        {"since": form.get("since", "")},
    )
    return await _seen(page, _due_again(done.count), f"/deliveries?{urlencode({'target': target})}")


async def replay_all(page: PageCall) -> web.StreamResponse:
    """Send again what any receiver did not take within a day, and start those that were stopped."""
    actor = page.user.name
    wanted = DeliveryFilter(since=filters.since(A_DAY))
    done = await page.act(
        "replay",
        "deliveries to all receivers",
        lambda: replay.replay(page.console.engine, wanted, actor=actor),
        {"since": A_DAY},
    )
    return await _seen(page, _due_again(done.count))


async def send_sample(page: PageCall) -> web.StreamResponse:
    """Send a sample to a webhook that there is, and say what it answered."""
    url, console = await _receiver(page), page.console
    if not url.startswith(WEBHOOK):
        raise BadFilter("target: only webhooks can be sent a sample")
    client = (await page.form()).get("client") or "default"
    actor = page.user.name
    sent = await page.act(
        "send sample",
        url,
        lambda: samples.send_sample(console.engine, console.settings, url, client, actor=actor),
    )
    how = f"answered {sent.status}" if sent.status else "gave no answer"
    said = f": {sent.detail}" if sent.detail else ""
    return await _seen(page, f"{url} {how} in {sent.milliseconds:,} ms{said}")


async def _seen(page: PageCall, said: str, path: str = "/deliveries") -> web.Response:
    return page.see(await page.came_from(path), said)


def _due_again(count: int) -> str:
    return f"{counted(count, 'delivery is', 'deliveries are')} due again."


async def _receiver(page: PageCall) -> str:
    """Return the receiver that the form names; it must be one that there is, so that nothing is sent elsewhere."""
    named = (await page.form()).get("target", "")
    found = await page.console.read(lambda on: [one.target for one in receivers(on)])
    if named not in found:
        raise BadFilter("target: no such receiver took, or was to take, an answer within the last 24 hours")
    return named
