"""The console of a real `carpool up`: its link signs on, and a request is seen to travel without loading the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect
from tests.acceptance.conftest import up, wait_until_ready
from tests.browser.conftest import Visit

from carpool_worker.processes.data_folder import read_env


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The link to the console that `carpool up` prints."""
    data: Path = tmp_path_factory.mktemp("up") / "carpool"
    with up(data, "--any-port", "--latency", "1", "--concurrency", "2") as process:
        wait_until_ready(process)
        yield read_env(data)["CARPOOL_CONSOLE_URL"]


def test_a_request_is_enqueued_and_seen_to_travel_and_then_revealed(link: str, visit: Visit) -> None:
    # Given somebody who followed the link
    parts = urlsplit(link)
    visitor = visit(f"{parts.scheme}://{parts.netloc}", signed_on=None)
    visitor.page.goto(link)
    visitor.page.get_by_role("button", name="Sign off").wait_for()

    # When they enqueue a request
    page = visitor.goto("/try")
    page.get_by_role("button", name="Enqueue").click()
    page.wait_for_url("**/try?id=*")
    page.evaluate("() => { window.stayed = true; }")

    # Then its way is shown until it has its answer, on the same page
    expect(page.locator("#way")).to_contain_text("completed", timeout=90_000)
    assert page.evaluate("() => window.stayed")

    # And its page shows its answer to who asks for it
    page.locator("#way a").first.click()
    page.get_by_role("button", name="Reveal").click()
    page.locator("[popover]:popover-open").get_by_role("button", name="Reveal").click()
    expect(page.locator("main")).to_contain_text("Say hello in five languages.")
    assert visitor.wrong == []
