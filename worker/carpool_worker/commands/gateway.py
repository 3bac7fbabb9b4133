"""`carpool gateway`: Anthropic's Messages API, for every program in any language."""

from __future__ import annotations

import typer

from carpool_worker.commands.options import BehindProxy, Host, Port, TlsCertificate, TlsKey


def gateway(
    host: Host = "127.0.0.1",
    port: Port = 8088,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    behind_proxy: BehindProxy = False,
) -> None:
    """Serve Anthropic's Messages API: a program changes its base URL and its key, and pays half.

    Any number of gateways may run side by side behind a load balancer. Callers need a key: carpool keys create. On
    SIGTERM a gateway takes no new calls, and gives those that wait gateway_drain seconds. Beyond this machine it does
    not start without TLS, its own or a proxy's; docs/gateway.md has configurations of the usual ones. Example:

        carpool gateway --port 8088
        ANTHROPIC_BASE_URL=http://127.0.0.1:8088 ANTHROPIC_API_KEY=cr_… python your_program.py
    """
    from carpool_worker.database import engine
    from carpool_worker.gateway.server import serve
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
    serve(settings(), engine(), listening, lambda url: typer.echo(f"The gateway is on {url}"))
