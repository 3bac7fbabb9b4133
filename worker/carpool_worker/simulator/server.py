"""The simulator as an HTTP server."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from carpool_worker.simulator import control, endpoints, message_endpoints, model_endpoints
from carpool_worker.simulator.gate import add_headers, admit, answer_errors
from carpool_worker.simulator.options import SimulatorOptions
from carpool_worker.simulator.simulator import SIMULATOR, Simulator

READ_BUFFER_BYTES = 1 << 20
SHUTDOWN_SECONDS = 1.0


def create_app(options: SimulatorOptions) -> web.Application:
    """Return the application: the API under `/v1`, the control API under `/simulator`."""
    app = web.Application(middlewares=[answer_errors, admit])
    app[SIMULATOR] = Simulator(options)
    app.add_routes(endpoints.routes)
    app.add_routes(message_endpoints.routes)
    app.add_routes(model_endpoints.routes)
    app.add_routes(control.routes)
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(_watch_batches)
    return app


def serve(options: SimulatorOptions) -> None:
    """Serve until SIGINT or SIGTERM; print one line with the URL once ready."""
    asyncio.run(_serve_until_signal(options))


@asynccontextmanager
async def serving(options: SimulatorOptions) -> AsyncIterator[str]:
    """Serve while the context lasts; yield the URL."""
    runner = web.AppRunner(
        create_app(options),
        access_log=None,
        read_bufsize=READ_BUFFER_BYTES,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def _serve_until_signal(options: SimulatorOptions) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving(options) as url:
        print(f"Simulated Message Batches API: {url}", flush=True)
        await stopped.wait()


async def _watch_batches(app: web.Application) -> AsyncIterator[None]:
    app[SIMULATOR].lifecycle.resume()
    yield
    await app[SIMULATOR].lifecycle.stop()
