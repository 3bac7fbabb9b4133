"""`carpool metrics`: what Prometheus scrapes."""

from __future__ import annotations

import os
from typing import Annotated

import typer

CONNECT_SECONDS = "3"
"""How long PostgreSQL may take to answer; it is asked twice, as Prometheus waits 10 seconds by default."""


def metrics(
    address: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")
    ] = 9465,
) -> None:
    """Serve metrics for Prometheus, until Ctrl-C.

    They come from the database and Redis at each scrape, whatever number of workers runs: run one. They hold no
    prompts, but names of clients, models and webhooks' hosts: let only Prometheus reach it. Alert rules and a
    dashboard are in config/prometheus and config/grafana. Example:

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
        connect_briefly(settings().redis_url) as server,
        serving(Exporter(engine(), server, settings()), address, port) as (port, wait),
    ):
        typer.echo(f"Metrics are on http://{address}:{port}/metrics")
        wait()
