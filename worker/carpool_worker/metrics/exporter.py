"""The collector that prometheus_client calls at each scrape, and the server that Prometheus scrapes."""

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
from carpool_worker.metrics.batches import of_batches, of_periods, of_usage
from carpool_worker.metrics.budgets import of_budgets, of_key_budgets
from carpool_worker.metrics.cached import Cached
from carpool_worker.metrics.calls import of_calls
from carpool_worker.metrics.families import gauge, of_deliveries, of_totals, of_vitals
from carpool_worker.metrics.gateways import of_gateways
from carpool_worker.metrics.quotas import of_quotas
from carpool_worker.metrics.readings import count_rows, read_tables
from carpool_worker.settings import Settings
from carpool_worker.views.gateways import read_gateways
from carpool_worker.views.quotas import read_quotas
from carpool_worker.views.vitals import read_vitals

AWAY = (RedisError, sa.exc.SQLAlchemyError, OSError)

Reading = TypeVar("Reading")


class Exporter(Collector):
    """Collects the metrics; those of a server that can't be reached are missing, and carpool_up is 0 for it."""

    def __init__(self, engine: sa.Engine, server: redis.Redis, settings: Settings) -> None:
        self._readings = Cached(lambda: read_tables(engine, settings))
        self._totals = Cached(lambda: count_rows(engine))
        self._vitals = Cached(lambda: read_vitals(server))
        self._gateways = Cached(lambda: read_gateways(server))
        self._quotas = Cached(lambda: read_quotas(server))

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as of now, or of a few seconds ago."""
        at, vitals, readings, totals = (
            now(),
            _reached(self._vitals),
            _reached(self._readings),
            _reached(self._totals),
        )
        up = {"redis": vitals is not None, "database": readings is not None and totals is not None}
        text = "Whether the server can be reached."
        yield gauge("up", text, ("server",), [((name,), reached) for name, reached in up.items()])
        if vitals is not None:
            yield from of_vitals(vitals)
        if (gateways := _reached(self._gateways)) is not None:
            yield from of_gateways(gateways)
        if (quotas := _reached(self._quotas)) is not None:
            yield from of_quotas(quotas)
        if readings is not None:
            yield from of_batches(readings, at)
            yield from of_calls(readings.calls, readings.used_each_way)
            yield from of_deliveries(readings.deliveries, readings.tries, at)
            yield from of_usage(readings.used)
            yield from of_periods({"day": readings.used_today, "month": readings.used_this_month})
            yield from of_budgets(readings.budgets, readings.held)
            yield from of_key_budgets(readings.key_budgets)
        if totals is not None:
            yield from of_totals(totals, at)

    def close(self) -> None:
        """Wait for readings that are under way."""
        for cached in (self._readings, self._totals, self._vitals, self._gateways, self._quotas):
            cached.close()


@contextmanager
def serving(exporter: Exporter, address: str, port: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """Serve /metrics; yield the port (the kernel picks one for 0) and a function that waits until the server ends."""
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


def _reached(cached: Cached[Reading]) -> Reading | None:
    try:
        return cached.get()
    except AWAY:
        return None
