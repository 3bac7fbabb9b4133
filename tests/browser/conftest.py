"""A real Chromium that looks at a console, for `make browser`: a package of the system brings it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright
from tests.fixtures import busy_day
from tests.fixtures.busy_day import BusyDay
from tests.fixtures.console import PASSWORD, ROLES, running_console
from tests.fixtures.processes import running

from carpool_worker.database import open_engine
from carpool_worker.settings import read_settings

CHROMIUM = "CARPOOL_TESTS_CHROMIUM"
collect_ignore_glob = [] if CHROMIUM in os.environ else ["test_*.py"]

WIDE, MIDDLE, PHONE = 1_400, 800, 390
MILLISECONDS = 15_000
"""That a page or a condition on it may take; it takes some hundred, but machines are busy."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; none of its processes is left behind."""
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ[CHROMIUM], args=["--no-sandbox"])
        ours = [one for one in psutil.Process().children(recursive=True) if one.pid not in before]
        yield browser
        browser.close()
    psutil.wait_procs(ours, timeout=10)
    assert running(ours) == []


@dataclass
class Desk:
    """A console on a busy day: its URL, its database, and what was made up."""

    url: str
    engine: sa.Engine
    day: BusyDay


@pytest.fixture(scope="module")
def desk(
    tmp_path_factory: pytest.TempPathFactory, migrated: Callable[[str], None], module_redis_url: str
) -> Iterator[Desk]:
    """A console on the busy day, whose password opens everything."""
    url = f"sqlite:///{tmp_path_factory.mktemp('busy')}/carpool.db"
    migrated(url)
    engine = open_engine(url)
    day = busy_day.fill(engine)
    settings = read_settings(
        redis_url=module_redis_url,
        database_url=url,
        console_password=PASSWORD,
        console_roles=ROLES,
        submit_windows=["Mon-Fri 22:00-06:00 Europe/Berlin", "Sat-Sun"],
        budgets={"default": {"day": 12, "month": 180}},
    )
    with running_console(settings, engine) as at:
        yield Desk(at, engine, day)
    engine.dispose()


class Visitor:
    """A page of somebody who looks at a console, and what went wrong on it: messages, requests to other hosts."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.wrong: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(MILLISECONDS)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def goto(self, path: str) -> Page:
        """Open a page of the console."""
        self.page.goto(self.url + path)
        return self.page

    def sign_on(self, secret: str = PASSWORD, name: str = "") -> None:
        """Sign on, as people do."""
        self.goto("/sign-on")
        self.page.get_by_label("Password, or a key").fill(secret)
        if name:
            self.page.get_by_label("Your name").fill(name)
        self.page.get_by_role("button", name="Sign on").click()
        self.page.get_by_role("button", name="Sign off").wait_for()

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")

    def _asked(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.url).netloc and not url.startswith(("data:", "blob:")):
            self.wrong.append(f"another host: {url}")


Visit = Callable[..., Visitor]


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """Return what opens an empty page for somebody: visit(url, theme="dark", width=390, signed_on="a key")."""
    contexts: list[BrowserContext] = []

    def open_(
        url: str, *, theme: Any = "light", width: int = WIDE, signed_on: str | None = PASSWORD
    ) -> Visitor:
        viewport: Any = {"width": width, "height": 900}
        contexts.append(chromium.new_context(color_scheme=theme, viewport=viewport, reduced_motion="reduce"))
        visitor = Visitor(contexts[-1], url)
        if signed_on:
            visitor.sign_on(signed_on, "anna" if signed_on == PASSWORD else "")
        return visitor

    yield open_
    for context in contexts:
        context.close()


def act(within: Page | Locator, button: str, confirm: str | None = None, **fields: str) -> None:
    """Press a button, fill in what it asks for, by its label, and confirm."""
    page = within.page if isinstance(within, Locator) else within
    within.get_by_role("button", name=button, exact=True).first.click()
    asked = page.locator("[popover]:popover-open")
    for label, value in fields.items():
        asked.get_by_label(label).fill(value)
    asked.get_by_role("button", name=confirm or button, exact=True).click()
    page.wait_for_load_state()


def assert_said(page: Page, words: str) -> None:
    """The page says what was done."""
    expect(page.get_by_role("status").filter(has_text=words)).to_be_visible()
