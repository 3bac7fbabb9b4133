"""What holds for each page."""

from __future__ import annotations

import pytest
from tests.fixtures.console import Browser

from carpool_worker.console.routes import TABS

PATHS = [tab.path for tab in TABS if not tab.simulator]


@pytest.mark.parametrize("path", PATHS)
def test_a_page_loads_nothing_from_another_host(operator: Browser, path: str) -> None:
    page = operator.get(path)

    assert page.status == 200
    assert 'src="http' not in page.text
    assert 'rel="stylesheet" href="/static/' in page.text


@pytest.mark.parametrize("path", PATHS)
def test_no_page_keeps_scripts_or_handlers_in_its_text(operator: Browser, path: str) -> None:
    text = operator.get(path).text

    assert "<script>" not in text
    assert " onclick=" not in text


def test_what_is_not_there_is_a_page_that_says_so(operator: Browser) -> None:
    page = operator.get("/nothing")

    assert page.status == 404
    assert "There is no such page." in page.text


def test_static_files_are_kept_for_good_by_what_they_contain(operator: Browser) -> None:
    text = operator.get("/").text
    path = text.split('rel="stylesheet" href="', 1)[1].split('"', 1)[0]

    assert operator.get(path).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert operator.get(path.partition("?")[0]).headers["Cache-Control"] == "no-cache"
