"""What holds for each page in a real browser: it fits, says nothing is wrong, asks no other host, and can be read."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page
from tests.browser.conftest import MIDDLE, PHONE, WIDE, Desk, Visit

from carpool_worker.console.routes import TABS

PATHS = [tab.path for tab in TABS if not tab.simulator]
INNER = [
    "/batches/completed",
    "/batches/in_progress",
    "/requests/completed",
    "/requests/discarded",
    "/requests/nothing",
]
"""Pages of one thing: a batch, or a request, in a state."""

OVERFLOW = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  const outside = (one) => one.getBoundingClientRect().right > room + 1 && !one.closest(".scroll, .unseen, nav, pre");
  return [...document.querySelectorAll("body *")].filter(outside).slice(0, 5).map((one) => one.outerHTML.slice(0, 160));
}"""
"""What sticks out to the right of a page that scrolls sideways."""


DRAWN = (
    """() => [...document.querySelectorAll("figure.chart")].every((one) => one.querySelector(".drawn svg"))"""
)


def path_of(desk: Desk, path: str) -> str:
    _, kind, state = path.split("/") if path in INNER else ("", "", "")
    found = {"requests": desk.day.requests, "batches": desk.day.batches}.get(kind, {}).get(state)
    return f"/{kind}/{found[0]}" if found else path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", [*PATHS, *INNER])
def test_a_page_fits_says_nothing_is_wrong_and_can_be_read_by_everybody(
    desk: Desk, visit: Visit, path: str, theme: str
) -> None:
    # Given somebody who has signed on, on a busy day
    visitor = visit(desk.url, theme=theme)

    # When they open the page
    page = visitor.goto(path_of(desk, path))

    page.wait_for_function(DRAWN)

    # Then it fits on every screen, and a wide one and a phone show nothing that some can't read
    for width in (WIDE, MIDDLE, PHONE):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(OVERFLOW) == [], f"at {width} pixels"
        if width != MIDDLE:
            assert faults(page) == [], f"at {width} pixels"

    # And the browser has nothing to say, and asked nobody else
    if path == "/requests/nothing":
        visitor.wrong = [one for one in visitor.wrong if "404" not in one]
    assert visitor.wrong == []


def faults(page: Page) -> list[str]:
    """Return the serious faults that axe finds on a page."""
    found: dict[str, Any] = Axe().run(page).response
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
