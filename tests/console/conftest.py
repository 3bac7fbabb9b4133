"""Fixtures of the console's tests: one console for each module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from tests.fixtures.console import PASSWORD, ROLES, Browser, running_console, signed_on

from carpool_worker.database import open_engine
from carpool_worker.settings import Settings, read_settings


@pytest.fixture(scope="module")
def console_engine(
    tmp_path_factory: pytest.TempPathFactory, migrated: Callable[[str], None]
) -> Iterator[sa.Engine]:
    """The console's database; what a test of the module writes, the next ones see."""
    url = f"sqlite:///{tmp_path_factory.mktemp('console')}/carpool.db"
    migrated(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def console_settings(console_engine: sa.Engine, module_redis_url: str) -> Settings:
    """Whoever knows the password may do everything."""
    return read_settings(
        redis_url=module_redis_url,
        database_url=console_engine.url.render_as_string(hide_password=False),
        console_password=PASSWORD,
        console_roles=ROLES,
    )


@pytest.fixture(scope="module", autouse=True)
def nothing_beyond(module_redis_url: str, console_engine: sa.Engine) -> Iterator[None]:
    """The doctor reads the environment: it finds the test's own servers, and calls no API but one that isn't there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARPOOL_REDIS_URL", module_redis_url)
        patch.setenv("CARPOOL_DATABASE_URL", console_engine.url.render_as_string(hide_password=False))
        patch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
        yield


@pytest.fixture(scope="module")
def console(console_settings: Settings, console_engine: sa.Engine) -> Iterator[str]:
    """A console's URL."""
    with running_console(console_settings, console_engine) as url:
        yield url


@pytest.fixture(scope="module")
def operator(console: str) -> Browser:
    """Somebody who may do everything, and has signed on."""
    return signed_on(console, name="anna")
