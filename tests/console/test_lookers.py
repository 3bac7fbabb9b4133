"""Open pages cost the database the same, however many look."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import aiohttp
import pytest
import sqlalchemy as sa
from tests.fixtures.console import Browser, running_console, signed_on

from carpool_worker.console import live
from carpool_worker.console.pages import requests
from carpool_worker.settings import Settings

FETCHES = 10
ACTIVITY_SECONDS = 0.2
A_READING = 20
"""Statements of a page of requests, or of what moves, at most."""


@pytest.mark.parametrize("lookers", [1, 20])
def test_what_open_pages_ask_does_not_grow_with_those_who_look(
    console_settings: Settings, console_engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, lookers: int
) -> None:
    # Given a console that looks often at what moves, and pages that are open
    monkeypatch.setattr(live, "ACTIVITY_SECONDS", ACTIVITY_SECONDS)
    monkeypatch.setattr(live, "LOOK_SECONDS", ACTIVITY_SECONDS / 4)
    with running_console(console_settings, console_engine) as url, ExitStack() as stack:
        browser, asked = signed_on(url), list[str]()

        def count(_: object, __: object, statement: str, *___: object) -> None:
            asked.append(statement)

        sa.event.listen(console_engine, "before_cursor_execute", count)
        stack.callback(sa.event.remove, console_engine, "before_cursor_execute", count)

        # When each fetches its page again and again
        start = time.monotonic()
        fetched = asyncio.run(_open(browser, lookers))
        seconds = time.monotonic() - start

    # Then that was read as often as its age demands
    assert fetched == lookers * FETCHES
    readings = seconds / ACTIVITY_SECONDS + seconds / requests.KEPT_SECONDS + 4
    assert 0 < len(asked) <= readings * A_READING


async def _open(browser: Browser, lookers: int) -> int:
    cookies = {one.name: one.value or "" for one in browser.cookies}
    async with aiohttp.ClientSession(browser.url, cookies=cookies) as session:
        return sum(await asyncio.gather(*(_look(session) for _ in range(lookers))))


async def _look(session: aiohttp.ClientSession) -> int:
    async with session.get("/live") as stream:
        assert await stream.content.readline() == b"retry: 5000\n"
        for fetched in range(FETCHES):
            async with session.get("/requests") as page:
                assert page.status == 200, fetched
    return FETCHES
