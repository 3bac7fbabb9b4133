"""What stands between Carpool and the API rewrites its answers; and somebody stops batches at Anthropic's console."""

from __future__ import annotations

import time
from contextlib import suppress

import anthropic
import sqlalchemy as sa
from tests.chaos import luck
from tests.chaos.scenario import scenario
from tests.chaos.stack import Stack

from carpool_worker.database import read, write
from carpool_worker.models.tables import batches
from carpool_worker.states import QUEUED_BATCH_STATES
from carpool_worker.store.batches import lane_pauses

NOTICED_SECONDS = 20.0
"""How long it may take until every batch that was canceled is seen to have ended."""


@scenario(
    "a relay that rewrites answers",
    seconds=45,
    CARPOOL_FRESH_SETTLE_INTERVAL=luck.FRESH_SETTLE,
)
def rewritten(stack: Stack) -> None:
    """Let pages, arrays, cut texts and bare batches come in the place of the API's answers, and posts be repeated."""
    for number in range(25):
        time.sleep(stack.luck.uniform(0.3, 1.5))
        (luck.relay if number % 5 else luck.repeat)(stack)


@scenario("batches canceled at the console", seconds=60, databases=("sqlite",))
def canceled_at_the_console(stack: Stack) -> None:
    """Cancel what runs at Anthropic, several times, and resume the lanes that pause."""
    key = stack.environment["ANTHROPIC_API_KEY"]
    with anthropic.Anthropic(base_url=stack.remote.url, api_key=key, max_retries=0) as console:
        for _ in range(4):
            time.sleep(stack.luck.uniform(2.0, 4.0))
            _cancel_all(stack, console)
            _wait_until_noticed(stack)
            _resume(stack)


def _cancel_all(stack: Stack, console: anthropic.Anthropic) -> None:
    for batch in console.messages.batches.list(limit=100).data:
        if batch.processing_status == "in_progress":
            with suppress(anthropic.APIError):  # it has ended meanwhile
                console.messages.batches.cancel(batch.id)
                stack.inject("console: a batch canceled")


def _wait_until_noticed(stack: Stack) -> None:
    began, over = int(time.time() * 1_000), time.monotonic() + NOTICED_SECONDS
    earlier = sa.select(batches.c.id).where(
        batches.c.state.in_(QUEUED_BATCH_STATES), batches.c.submitting_at < began
    )
    while time.monotonic() < over:
        with read(stack.engine) as connection:
            if connection.scalar(earlier.limit(1)) is None:
                return
        time.sleep(0.3)


def _resume(stack: Stack) -> None:
    with write(stack.engine) as connection:
        for lane in lane_pauses.by_lane(connection):
            if lane_pauses.resume(connection, lane):
                stack.inject("operator: a lane resumed")
