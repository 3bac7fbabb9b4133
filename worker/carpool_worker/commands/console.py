"""`carpool console`: pages that show how everything stands."""

from __future__ import annotations

import typer

from carpool_worker.commands.options import BehindProxy, Host, Port, TlsCertificate, TlsKey


def console(
    host: Host = "127.0.0.1",
    port: Port = 8089,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    behind_proxy: BehindProxy = False,
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
