"""The simulator in a thread of this process, for tests and commands that start their own."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread

from carpool_worker.simulator.options import SimulatorOptions
from carpool_worker.simulator.remote import RemoteSimulator
from carpool_worker.simulator.server import serving

START_SECONDS = 10.0


@contextmanager
def running(options: SimulatorOptions) -> Iterator[RemoteSimulator]:
    """Serve in a thread while the context lasts; yield the client that controls it."""
    ready: Future[str] = Future()
    stopped = asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = Thread(target=_run, args=(loop, options, ready, stopped), name="simulator")
    thread.start()
    try:
        yield RemoteSimulator(ready.result(START_SECONDS))
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


def _run(
    loop: asyncio.AbstractEventLoop, options: SimulatorOptions, ready: Future[str], stopped: asyncio.Event
) -> None:
    try:
        loop.run_until_complete(_serve(options, ready, stopped))
    except Exception as error:
        ready.set_exception(error)
        raise
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())


async def _serve(options: SimulatorOptions, ready: Future[str], stopped: asyncio.Event) -> None:
    async with serving(options) as url:
        ready.set_result(url)
        await stopped.wait()
