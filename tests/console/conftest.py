"""Fixtures of the console's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from tests.fixtures.console import running_console
from tests.fixtures.gateway import gateway_engine, idle_carpool

from carpool_worker.settings import read_settings

__all__ = ["gateway_engine", "idle_carpool"]


@pytest.fixture
def console(gateway_engine: sa.Engine, redis_url: str) -> Iterator[str]:
    """A console's URL."""
    url = gateway_engine.url.render_as_string(hide_password=False)
    with running_console(read_settings(redis_url=redis_url, database_url=url), gateway_engine) as found:
        yield found
