"""The overview: what it says needs somebody, and the button beside it; and the page about health with the audit log."""

from __future__ import annotations

import pytest
import redis
import sqlalchemy as sa
from tests.fixtures.console import Answer, Browser, running_console, signed_on
from tests.fixtures.waiting import until

from carpool_worker.console.cache import PageCache
from carpool_worker.database import now, read, write
from carpool_worker.settings import Settings
from carpool_worker.store.batches import lane_pauses
from carpool_worker.views import audit

LANE = "claude-haiku-4-5"


@pytest.fixture(autouse=True)
def paused_lane(console_engine: sa.Engine) -> None:
    with write(console_engine) as connection:
        lane_pauses.pause_by_operator(connection, LANE, "the invoice is looked at", now())


def test_a_paused_lane_needs_somebody_and_is_resumed_by_the_button(
    console: str, console_engine: sa.Engine
) -> None:
    operator = signed_on(console, name="anna")  # after the pause: a new console would have read it, too
    page = operator.get("/")
    assert "is paused by an operator: the invoice is looked at" in page.text
    assert "Resume claude-haiku-4-5?" in page.text

    after = operator.post("/lanes/resume", {"lane": LANE, "from": "overview"})

    assert after.status == 200
    assert "Resumed: claude-haiku-4-5." in after.text
    assert "is paused by an operator" not in after.text
    assert "Resumed:" not in operator.get("/").text  # it is said once
    with read(console_engine) as connection:
        (entry, *_) = audit.newest(connection, 5)
    assert (entry.actor, entry.action, entry.what, entry.outcome) == (
        "anna (password)",
        "resume",
        "lane claude-haiku-4-5",
        "done",
    )
    assert "lane claude-haiku-4-5" in signed_on(console).get("/health").text


def test_what_fails_is_in_the_audit_log_with_its_reason(operator: Browser, console_engine: sa.Engine) -> None:
    refused = operator.post("/lanes/resume", {"lane": "claude-nothing"})

    assert refused.status == 404
    assert "there is no lane &#39;claude-nothing&#39;" in refused.text
    with read(console_engine) as connection:
        (entry, *_) = audit.newest(connection, 5)
    assert entry.outcome == "failed"
    assert entry.error
    assert "there is no lane" in entry.error


def test_whoever_may_only_look_has_no_button_and_can_not_act(
    console_settings: Settings, console_engine: sa.Engine
) -> None:
    with running_console(
        console_settings.model_copy(update={"console_roles": ["look"]}), console_engine
    ) as url:
        looker = signed_on(url)
        assert "is paused by an operator" in looker.get("/").text
        assert "/lanes/resume" not in looker.get("/").text

        refused = looker.post("/lanes/resume", {"lane": LANE, "from": "overview"})

    assert refused.status == 403
    assert "no permission to act" in refused.text


def test_health_says_what_the_doctor_finds_and_that_nobody_answers(operator: Browser) -> None:
    def read_whole() -> Answer | None:
        found = operator.get("/health")
        assert found.status == 200
        return None if "data-unread" in found.text else found

    page = until(read_whole)

    assert "No worker answers" in page.text
    assert "What the doctor finds" in page.text


def test_a_filter_that_is_not_there_is_named(operator: Browser) -> None:
    for path, sentence in (
        ("/health?x=1", "there is no filter &#39;x&#39; here; there are after"),
        ("/health?after=1", "after: must be"),
    ):
        page = operator.get(path)
        assert page.status == 400
        assert sentence in page.text


def test_an_away_redis_is_a_page_that_says_so(console_settings: Settings, console_engine: sa.Engine) -> None:
    away = console_settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with running_console(away, console_engine) as url:
        page = signed_away(url).get("/")

    assert page.status == 503
    assert "Redis can&#39;t be reached" in page.text


def signed_away(url: str) -> Browser:
    browser = Browser(url)
    browser.sign_on()
    return browser


async def _asked_at_once(cache: PageCache) -> tuple[list[int], int]:
    import asyncio

    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return asked

    found = await asyncio.gather(*(cache.get("key", 60, ask) for _ in range(100)))
    found += [await cache.soon("slow", 60, ask), await cache.soon("slow", 60, ask)]
    cache.forget()
    found += [await cache.soon("slow", 60, ask), await cache.get("key", 60, ask)]
    await cache.close()
    return found, asked


def test_a_hundred_lookers_ask_once() -> None:
    import asyncio

    found, asked = asyncio.run(_asked_at_once(PageCache()))

    assert found == [1] * 100 + [2, 2] + [2, 4]  # what takes long is read again meanwhile
    assert asked == 4


def test_nobody_waits_for_what_takes_long() -> None:
    import asyncio

    async def look() -> tuple[object, object]:
        cache, over = PageCache(), asyncio.Event()

        async def ask() -> bool:
            return await over.wait()

        first = await cache.at_once("slow", 60, ask)
        over.set()
        return first, await cache.soon("slow", 60, ask)

    assert asyncio.run(look()) == (None, True)


def test_pages_are_told_when_something_moves(operator: Browser, module_redis_url: str) -> None:
    import urllib.request

    (cookie,) = operator.cookies
    request = urllib.request.Request(
        f"{operator.url}/live", headers={"Cookie": f"{cookie.name}={cookie.value}"}
    )
    with urllib.request.urlopen(request, timeout=30) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.readline() == b"retry: 5000\n"
        with redis.Redis.from_url(module_redis_url) as server:
            server.set("carpool:{0}:queued", 3)
        lines = iter(stream.readline, b"")
        assert next(line for line in lines if line.startswith(b"event")) == b"event: changed\n"
