"""What is done about one request: cancel it, retry it, deliver its answer again, and reveal what it says."""

from __future__ import annotations

from aiohttp import web

from carpool_worker.console.command_lines import command_line
from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter
from carpool_worker.console.users import Role
from carpool_worker.formatting import counted
from carpool_worker.operations import replay, retry
from carpool_worker.operations.cancel import CancelOutcome
from carpool_worker.operations.cancel import cancel as cancel_requests
from carpool_worker.views import lookup, requests
from carpool_worker.views.deliveries import DeliveryFilter


async def cancel(page: PageCall) -> web.StreamResponse:
    """Cancel a request."""
    id_ = await _id(page)
    outcome = await page.act(
        "cancel", f"request {id_}", lambda: cancel_requests(page.console.engine, [id_], actor=page.user.name)
    )
    return page.see(f"/requests/{id_}", canceled(outcome))


async def retry_one(page: PageCall) -> web.StreamResponse:
    """Retry a discarded request."""
    id_, form = await _id(page), await page.form()
    allowed = retry.chances(even_paid="even_paid" in form)
    wanted = await page.console.read(lambda on: retry.choose(on, page.console.settings, [id_]))
    count = await page.act(
        "retry",
        f"request {id_}",
        lambda: retry.retry(page.console.engine, wanted, allowed, actor=page.user.name),
        {"even_paid": "even_paid" in form},
    )
    return page.see(f"/requests/{id_}", "It will be tried again." if count else "It can't be retried now.")


async def deliver_again(page: PageCall) -> web.StreamResponse:
    """Replay the delivery of an answer, which was given up on."""
    id_ = await _id(page)
    wanted = DeliveryFilter(ids=[id_])
    done = await page.act(
        "replay",
        f"delivery of request {id_}",
        lambda: replay.replay(page.console.engine, wanted, actor=page.user.name),
    )
    said = (
        "Its answer is delivered again."
        if done.count
        else "It is not a dead letter, or its answer is no longer kept."
    )
    return page.see(f"/requests/{id_}", said)


async def reveal(page: PageCall) -> web.StreamResponse:
    """Answer with the prompt, the answer and the metadata of a request; the audit log has who read them."""
    id_ = await _id(page)
    found = await page.act(
        "reveal",
        f"contents of request {id_}",
        lambda: page.console.run_read(
            lambda on: requests.find(on, page.console.settings, id_, contents=True)
        ),
        role=Role.REVEAL,
    )
    line = command_line("requests", "show", id_, content=True)
    return page.draw("contents.html", one=found, contents=found.contents, line=line)


def canceled(outcome: CancelOutcome) -> str:
    """Return what became of requests that were to be canceled, in a sentence."""
    parts = [
        (outcome.canceled, "canceled at no cost"),
        (
            outcome.at_anthropic,
            "at Anthropic already: the answers are dropped, and paid for if they were made",
        ),
        (outcome.ended, "ended before"),
    ]
    said = [f"{counted(count, 'request')} {words}" for count, words in parts if count]
    return f"{'; '.join(said) or 'Nothing was left to cancel'}."


async def _id(page: PageCall) -> str:
    named = page.request.match_info["id"]
    if len(named) != lookup.ID_DIGITS:
        raise BadFilter("an act needs the whole id of a request")
    return await page.console.read(lambda on: lookup.request_id(on, named))
