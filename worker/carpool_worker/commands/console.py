"""`carpool console`: pages that show how everything stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carpool_worker.commands.options import Port


def console(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Port = 8089,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            "--tls-certificate", help="The certificate of TLS and its chain, PEM.", show_default=False
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", help="Its private key, PEM.", show_default="in the certificate's file"),
    ] = None,
    behind_proxy: Annotated[
        bool,
        typer.Option("--behind-proxy", help="TLS ends at a proxy, which alone can reach this address."),
    ] = False,
) -> None:
    """Serve the console: pages that show the flow, the spend and where it hurts, with the button beside it.

    On this machine it prints a link that signs on by itself. Otherwise people sign on with console_password, or with a
    key: its scopes look, act and reveal say what they may do, and a client's own key shows that client alone. Beyond
    this machine it does not start without TLS, its own or a proxy's, nor while nobody could sign on. Any number may run
    side by side; give them one console_secret. Examples:

        carpool console
        carpool keys create operators --name anna --scope look,act
        carpool console --host 0.0.0.0 --tls-certificate console.pem
    """
    from carpool_worker.console.server import serve
    from carpool_worker.database import engine
    from carpool_worker.processes import preflight
    from carpool_worker.processes.listening import Listening
    from carpool_worker.settings import settings
    from carpool_worker.telemetry import logs

    logs.begin(settings().log_format)
    listening = Listening(host, port, tls_certificate, tls_key, behind_proxy)
    listening.check()
    preflight.check_port(host, port)
    preflight.check_redis()
    preflight.check_tables()
    serve(settings(), engine(), listening, lambda url: typer.echo(f"The console is on {url}"))
