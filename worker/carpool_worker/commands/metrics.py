"""`carpool metrics`: what Prometheus scrapes."""

from __future__ import annotations

import os

import typer

from carpool_worker.commands.options import Address, Port

CONNECT_SECONDS = "3"
"""How long PostgreSQL may take to answer; it is asked twice, as Prometheus waits 10 seconds by default."""


def metrics(
    address: Address = "127.0.0.1",
    port: Port = 9465,
) -> None:
    """Serve metrics for Prometheus, until Ctrl-C.

    They are read from the database and Redis at each scrape, so one such process is enough for any number of workers.
    They contain no prompts, but the names of clients and models and the hosts of webhooks: let only Prometheus reach
    it. Alert rules and a dashboard are in config/prometheus and config/grafana. Example:

        carpool metrics --address 0.0.0.0
        curl -s http://127.0.0.1:9465/metrics | grep carpool_inbox
    """
    os.environ.setdefault("PGCONNECT_TIMEOUT", CONNECT_SECONDS)
    from contextlib import suppress

    from carpool_worker.database import engine
    from carpool_worker.metrics.exporter import Exporter, serving
    from carpool_worker.metrics.readings import connect_briefly
    from carpool_worker.processes.preflight import check_port, check_tables
    from carpool_worker.settings import settings
    from carpool_worker.telemetry import logs

    logs.begin(settings().log_format)
    check_port(address, port)
    check_tables()
    with (
        suppress(KeyboardInterrupt),
        connect_briefly(settings()) as server,
        serving(Exporter(engine(), server, settings()), address, port) as (port, wait),
    ):
        typer.echo(f"Metrics are on http://{address}:{port}/metrics")
        wait()
