"""The collector that Prometheus' library asks at each scrape, and the server that Prometheus asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from wsgiref.simple_server import WSGIServer

import redis
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from carpool_worker.database import now
from carpool_worker.metrics.batches import of_batches, of_usage
from carpool_worker.metrics.budgets import of_budgets
from carpool_worker.metrics.cached import Kept
from carpool_worker.metrics.families import gauge, of_deliveries, of_signs, of_totals
from carpool_worker.metrics.readings import count, look
from carpool_worker.settings import Settings
from carpool_worker.views.vitals import ask

AWAY = (RedisError, sa.exc.SQLAlchemyError, OSError)

Look = TypeVar("Look")


class Exporter(Collector):
    """Collects the metrics; what can't be reached is missing from them, and carpool_up says so."""

    def __init__(self, engine: sa.Engine, server: redis.Redis, settings: Settings) -> None:
        self._seen = Kept(lambda: look(engine, settings))
        self._totals = Kept(lambda: count(engine))
        self._signs = Kept(lambda: ask(server))

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of this moment, or of a few seconds ago."""
        at, signs, seen, totals = now(), _reached(self._signs), _reached(self._seen), _reached(self._totals)
        up = {"redis": signs is not None, "database": seen is not None and totals is not None}
        text = "Whether the server could be asked."
        yield gauge("up", text, ("server",), [((name,), reached) for name, reached in up.items()])
        if signs is not None:
            yield from of_signs(signs)
        if seen is not None:
            yield from of_batches(seen, at)
            yield from of_deliveries(seen.deliveries, seen.tries, at)
            yield from of_usage(seen.used)
            yield from of_budgets(seen.budgets, seen.held)
        if totals is not None:
            yield from of_totals(totals, at)

    def close(self) -> None:
        """Wait for looks that are under way."""
        for kept in (self._seen, self._totals, self._signs):
            kept.close()


@contextmanager
def serving(exporter: Exporter, address: str, port: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """Serve /metrics; yields the port, which the kernel chooses for 0, and what waits for the server's end."""
    registry = CollectorRegistry()
    registry.register(exporter)
    server: WSGIServer
    thread: threading.Thread
    server, thread = start_http_server(port, address, registry)
    try:
        yield server.server_port, thread.join
    finally:
        server.shutdown()
        server.server_close()
        exporter.close()


def _reached(kept: Kept[Look]) -> Look | None:
    try:
        return kept.get()
    except AWAY:
        return None
