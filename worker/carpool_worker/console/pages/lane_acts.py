"""What is done on the page of lanes: pausing them, and resuming them."""

from __future__ import annotations

from aiohttp import web

from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter
from carpool_worker.operations import lanes

LONGEST_REASON = 500


async def pause(page: PageCall) -> web.StreamResponse:
    """Pause a lane; whoever looks at it later sees who did it and why."""
    form = await page.form()
    lane, reason = _lane(form), form.get("reason", "").strip()
    if not reason:
        raise BadFilter("reason: must say why, for those who see it later")
    if len(reason) > LONGEST_REASON:
        raise BadFilter(f"reason: must have {LONGEST_REASON} characters at most")
    from carpool_worker import app  # Celery takes long to import, and only acts need it

    engine, who = page.console.engine, page.user.name
    await page.act(
        "pause",
        f"lane {lane}",
        lambda: lanes.pause(engine, [lane], f"{reason} ({who})", actor=who, app=app.app),
        {"reason": reason},
    )
    return page.see("/lanes", f"Paused: {lane}. Nothing is submitted from it until it is resumed.")


async def resume(page: PageCall) -> web.StreamResponse:
    """Resume a lane, whoever paused it."""
    lane = _lane(await page.form())
    from carpool_worker import app

    engine, who = page.console.engine, page.user.name
    resumed = await page.act(
        "resume", f"lane {lane}", lambda: lanes.resume(engine, [lane], actor=who, app=app.app)
    )
    said = f"Resumed: {lane}. Its batches go on within seconds." if resumed else f"It was not paused: {lane}."
    return page.see(await page.came_from("/lanes"), said)


def _lane(form: dict[str, str]) -> str:
    lane = form.get("lane", "")
    if not lane:
        raise BadFilter("lane: must name a lane")
    return lane
