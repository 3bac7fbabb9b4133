"""Errors as pages: a heading and a sentence, never a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

import sqlalchemy as sa
from aiohttp import web
from aiohttp.typedefs import Handler
from redis.exceptions import RedisError

from carpool_worker.console.refusals import TITLES, PageRefused, of_http
from carpool_worker.console.state import CONSOLE
from carpool_worker.exceptions import WorkerError
from carpool_worker.telemetry.logs import get_logger

log = get_logger(__name__)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what goes wrong with a page that says so."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return page_of(request, of_http(error))
    except ConnectionError:
        return web.Response()  # to a reader who has gone
    except Exception as error:
        return page_of(request, _refusal(error))


def page_of(request: web.Request, refusal: PageRefused) -> web.Response:
    """Return the page of an error."""
    title = TITLES.get(refusal.status, "Error")
    text = (
        request.app[CONSOLE].templates.get_template("error.html").render(title=title, sentence=str(refusal))
    )
    return web.Response(text=text, content_type="text/html", status=refusal.status)


def _refusal(error: Exception) -> PageRefused:
    match error:
        case PageRefused():
            return error
        case WorkerError():
            # UnknownId, UnknownBatch, UnknownLane …: what a page is asked about is not there
            return PageRefused(404 if type(error).__name__.startswith("Unknown") else 400, str(error))
        case sa.exc.OperationalError() | sa.exc.InterfaceError():
            return PageRefused(
                503, "The database can't be reached: nothing can be shown or done until it answers."
            )
        case RedisError():
            return PageRefused(503, "Redis can't be reached: nothing can be shown or done until it answers.")
    # Neither its text nor the page's path is logged: either may quote what somebody has written.
    last = traceback.extract_tb(error.__traceback__)[-1]
    log.error("page failed", error=type(error).__name__, place=f"{Path(last.filename).name}:{last.lineno}")
    return PageRefused(500, "The page has failed; the console's log says where.")
