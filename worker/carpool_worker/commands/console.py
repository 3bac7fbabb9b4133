"""`carpool console`: pages that show how everything stands."""

from __future__ import annotations

from typing import Annotated

import typer

from carpool_worker.commands.options import Port


def console(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Port = 8089,
) -> None:
    """Serve the console: pages that show the flow, the spend and where it hurts, with the button beside it.

    carpool console --port 8089
    """
    from carpool_worker.console.server import serve
    from carpool_worker.database import engine
    from carpool_worker.processes import preflight
    from carpool_worker.settings import settings
    from carpool_worker.telemetry import logs

    logs.begin(settings().log_format)
    preflight.check_port(host, port)
    preflight.check_redis()
    preflight.check_tables()
    serve(settings(), engine(), host, port, lambda url: typer.echo(f"The console is on {url}"))
