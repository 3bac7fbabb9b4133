"""What is done about one batch: cancel its requests, say what became of its post, and take its results."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import web

from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.pages.request_acts import canceled
from carpool_worker.console.protection import add_headers
from carpool_worker.console.refusals import BadFilter
from carpool_worker.console.users import Role
from carpool_worker.files.result_files import streamed
from carpool_worker.operations import cancel, resolve
from carpool_worker.operations.cancel import CancelOutcome
from carpool_worker.views import lookup, requests


async def cancel_all(page: PageCall) -> web.StreamResponse:
    """Cancel the requests of a batch that have not ended."""
    id_, engine = await _id(page), page.console.engine

    def do() -> CancelOutcome:
        return cancel.cancel(engine, cancel.unfinished_in_batch(engine, id_), actor=page.user.name)

    return page.see(f"/batches/{id_}", canceled(await page.act("cancel", f"batch {id_}", do)))


async def settle(page: PageCall) -> web.StreamResponse:
    """Say of a batch in doubt that it was made, as which, or that it was not."""
    id_, form = await _id(page), await page.form()
    made, how = form.get("claude_id", "").strip(), form.get("how")
    if how not in ("made", "not_made") or (how == "made") != bool(made):
        raise BadFilter("say either that it was made, with Anthropic's id, or that it was not")
    engine, settings, actor = page.console.engine, page.console.settings, page.user.name

    def do() -> bool:
        doubted = resolve.find_doubt(engine, settings, id_)
        with resolve.client_of(settings, doubted) as asked:
            if made:
                return resolve.declare_made(engine, asked, doubted, made, actor=actor)
            return resolve.declare_not_made(engine, asked, settings, doubted, actor=actor)

    moved = await page.act("resolve", f"batch {id_}", do, {"made": made or None})
    done = f"It is {made}: its results are taken." if made else "It is posted again."
    return page.see(f"/batches/{id_}", done if moved else "It has moved on in the meantime.")


async def results(page: PageCall) -> web.StreamResponse:
    """Send the results of a batch, a line each, as they are read; the audit log has who took them."""
    id_, console = await _id(page), page.console
    ids = await page.act(
        "download results",
        f"batch {id_}",
        lambda: console.run_read(lambda on: requests.ids_in_batch(on, id_)),
        role=Role.REVEAL,
    )
    response = web.StreamResponse()
    response.content_type = "application/x-ndjson"
    response.headers["Content-Disposition"] = f'attachment; filename="{id_}.jsonl"'
    add_headers(response)
    await response.prepare(page.request)
    parts = streamed(console.engine, ids)
    while (part := await asyncio.to_thread(_next, parts)) is not None:
        await response.write(part)
    await response.write_eof()
    return response


def _next(parts: Iterator[bytes]) -> bytes | None:
    return next(parts, None)


async def _id(page: PageCall) -> str:
    named = page.request.match_info["id"]
    return await page.console.read(lambda on: lookup.batch_id(on, named))
