"""What the pages of a console cost on a million requests, and a hundred of them that are open."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import redis
import sqlalchemy as sa
from tests.bench import busy_days, console_lookers, places
from tests.bench.busy_days import RARE
from tests.bench.console_lookers import movement
from tests.bench.counted_console import PASSWORD, CountedConsole, counted_console
from tests.bench.growth import settle
from tests.bench.meter import measured, tree
from tests.bench.places import NewDatabase
from tests.bench.progress import Bar
from tests.bench.rows import PageRow, Row, at_most
from tests.fixtures.console import Browser, signed_on

from carpool_worker.models import tables
from carpool_worker.states import RequestState

COUNT = 1_000_000
TRIES = 20
AIM_MILLISECONDS = 200.0
"""Of a page that nobody has looked at before."""

MOST = 0.95
OPEN_PAGES, OPEN_SECONDS = 100, 60.0
AIM_STATEMENTS = 1.0
"""A second, of all who look at a page together."""

TABS = ("/", "/batches", "/requests", "/errors", "/deliveries", "/spend", "/clients", "/lanes", "/health")

SLOWEST_FILLING, SLOWEST_PAGE, PAGES = 1_500, 0.5, 50
"""Requests a second, seconds of a look, and pages, that the announcement is based on; a busy machine included."""


def longest_seconds() -> float:
    """Return how long it takes at most, about."""
    looks = PAGES * TRIES * SLOWEST_PAGE + 2 * OPEN_SECONDS
    return len(places.DATABASES) * (COUNT / SLOWEST_FILLING + looks)


def run(count: int, kind: str, bar: Bar) -> Iterator[Row]:
    """Yield a row for each page, and one for each hundred that are open."""
    with places.valkey() as server, places.DATABASES[kind]() as new_database:
        yield from _on(new_database, server, count, bar)


def _on(new_database: NewDatabase, server: redis.Redis, count: int, bar: Bar) -> Iterator[Row]:
    with places.engines(new_database, 2) as (source, engine):
        kind = engine.dialect.name
        busy_days.fill(source, engine, count, lambda share: bar.show(f"{kind}: {count:,} requests", share))
        settle(engine)
        yield from measure(engine, server, bar)


def measure(engine: sa.Engine, server: redis.Redis, bar: Bar) -> Iterator[Row]:
    """Yield the rows of a database that is filled."""
    url = engine.url.render_as_string(hide_password=False)
    with counted_console(places.url_of(server), url) as console:
        browser = signed_on(console.url, PASSWORD)
        paths = pages(engine)
        for number, path in enumerate(paths):
            bar.show(f"{engine.dialect.name}: pages", number / len(paths))
            yield _page(console, browser, path, engine.dialect.name)
    for some in (("/",), TABS):
        with counted_console(places.url_of(server), url) as console, movement(server):
            yield _open(console, signed_on(console.url, PASSWORD), some, engine.dialect.name)


def pages(engine: sa.Engine) -> list[str]:
    """Return the URLs of the pages, with filters that find much, little, late and nothing."""
    row, delivery = tables.requests.c, tables.deliveries.c
    with engine.connect() as connection:
        middle = connection.scalars(sa.select(row.id).order_by(row.id).offset(10_000).limit(1)).first()
        failed, done = (
            connection.scalars(sa.select(row.id).where(row.state == state).limit(1)).first()
            for state in (RequestState.DISCARDED, RequestState.COMPLETED)
        )
        batch, target = (
            connection.execute(sa.select(row.batch_id).where(row.id == done)).scalar_one(),
            connection.scalars(sa.select(delivery.target).order_by(delivery.target).limit(1)).first(),
        )
        called = sa.select(row.id).join(tables.answers, tables.answers.c.id == row.answer_id)
        oldest = called.join(tables.deliveries, delivery.answer_id == row.answer_id).order_by(row.answer_id)
        late = connection.scalars(oldest.offset(5_000).limit(1)).first()
    lists: dict[str, list[dict[str, str]]] = {
        "/batches": [
            {"state": "completed"},
            {"state": "rejected"},
            {"model": "claude-opus-4-5"},
            {"model": "x"},
        ],
        "/requests": [
            {"client": "billing"},
            {"client": RARE},
            {"client": "nobody"},
            {"tag": "nightly"},
            {"tag": RARE},
            {"tag": "nightly", "client": "legal"},
            *({"state": state.value} for state in RequestState),
            {"state": "canceled", "client": "billing"},
            {"model": "claude-opus-4-5"},
            {"model": "claude-opus-4-5", "client": RARE},
            {"model": "claude-opus-4-5", "state": "canceled"},
            {"error": "overloaded_error"},
            {"error": "no_such_error"},
            {"since": "1h"},
            {"batch": str(batch)},
            {"before": str(middle)},
            {"q": "invoice-1"},
        ],
        "/errors": [{"since": "1w"}, {"client": "legal"}],
        "/errors/retry": [{"error": "overloaded_error"}],
        "/deliveries": [
            *({"state": state} for state in ("available", "retryable", "delivered", "discarded")),
            {"client": "legal"},
            {"client": "nobody"},
            {"target": str(target)},
            {"target": "https://nobody.example"},
            {"since": "1h"},
            {"before": str(late)},
        ],
        "/spend": [{"by": "model"}, {"since": "365d"}],
        "/clients": [{"named": "arch"}],
    }
    single = [f"/batches/{batch}", f"/requests/{done}", f"/requests/{failed}", "/clients/billing"]
    filtered = [f"{path}?{urlencode(query)}" for path, queries in lists.items() for query in queries]
    return [*TABS, *single, *filtered]


def _page(console: CountedConsole, browser: Browser, path: str, kind: str) -> PageRow:
    """Look at a page again and again, each time as if nobody had before; but once, for what is done only once."""
    took, asked, size = [], [], 0
    for _ in range(TRIES + 1):
        console.forget()
        before = console.statements
        start = time.perf_counter()
        answer = browser.get(path)
        took.append(1_000 * (time.perf_counter() - start))
        asked.append(console.statements - before)
        size = len(answer.text.encode())
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}")
    first, *others = took
    ordered = sorted(others)
    most = ordered[int(MOST * (len(ordered) - 1))]
    return PageRow(
        f"console {path}",
        kind,
        TRIES,
        sum(others) / 1_000,
        note=f"at first {first:,.0f} ms, {size:,} bytes",
        aims=(at_most(most, AIM_MILLISECONDS, "ms"),),
        median=statistics.median(others),
        most=most,
        statements=statistics.median(asked[1:]),
        page_bytes=size,
    )


def _open(console: CountedConsole, browser: Browser, paths: tuple[str, ...], kind: str) -> Row:
    """Keep a hundred pages open, the same number of each."""
    wanted = [paths[number % len(paths)] for number in range(OPEN_PAGES)]
    before: list[int] = []
    with measured(lambda: {"console": tree(console.process)}) as spent:
        fetched = console_lookers.look(
            browser, wanted, OPEN_SECONDS, lambda: before.append(console.statements)
        )
    statements = (console.statements - before[0]) / OPEN_SECONDS
    cpu = 100 * spent.cpu["console"] / spent.seconds
    which = "the Overview" if len(paths) == 1 else f"all {len(paths)}"
    return Row(
        f"console, {OPEN_PAGES} open pages of {which}",
        kind,
        OPEN_PAGES,
        spent.seconds,
        peaks=spent.peaks,
        note=f"{statements:.2f} statements/s, {cpu:.1f} % of a core, {fetched:,} fetches",
        aims=(at_most(statements / len(paths), AIM_STATEMENTS, "statements/s a page"),),
    )
