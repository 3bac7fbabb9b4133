"""What holds for each page."""

from __future__ import annotations

import urllib.request

import pytest

from carpool_worker.console.routes import TABS


@pytest.mark.parametrize("path", [tab.path for tab in TABS])
def test_a_page_loads_nothing_from_another_host(console: str, path: str) -> None:
    with urllib.request.urlopen(console + path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert 'src="http' not in answer.read().decode()
