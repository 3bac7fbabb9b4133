"""`carpool demo`: three clients, two models, three kinds of callback, and what batching saved."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.prompt import Confirm

from carpool_worker.claude.credentials import variable
from carpool_worker.database import open_engine
from carpool_worker.demo.clients import Client, Library, Shop, Support
from carpool_worker.demo.display import Progress, answers, savings
from carpool_worker.demo.instance import Instance, running
from carpool_worker.demo.prompts import classifications, highest_cost, read_files, summaries
from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import counted, dollars

GLANCE_SECONDS = 0.5
"""How often the display is refreshed."""

SIMULATED_TIMEOUT = 120.0
REAL_TIMEOUT = 25 * 60 * 60.0
"""Seconds after which the demo gives up: a real batch ends within 24 hours."""

console = Console(highlight=False)


def run(files: Sequence[Path], *, yes: bool, keep: bool) -> int:
    """Run the demo and return the exit code.

    Raises:
        WorkerError: a file can't be summarised, the cost was not agreed to, or Carpool did not start.
    """
    texts = read_files(files)
    clients = [Shop(classifications("first")), Support(classifications("second")), Library(summaries(texts))]
    real = variable() == "ANTHROPIC_API_KEY"
    if real and not (yes or _agreed(clients)):
        raise WorkerError("Nothing was sent. `carpool demo --yes` doesn't ask.")
    data = Path(tempfile.mkdtemp(prefix="carpool-demo-"))
    try:
        _play(data, clients, REAL_TIMEOUT if real else SIMULATED_TIMEOUT, keep)
    except BaseException:
        console.print(
            f"Its data and logs are still in {data}; to continue from there: carpool up --data {data}"
        )
        raise
    shutil.rmtree(data)
    return 0


def _agreed(clients: Sequence[Client]) -> bool:
    requests = [request for client in clients for request in client.requests]
    console.print(
        f"ANTHROPIC_API_KEY is set: {counted(len(requests), 'request')} will go to the real API, "
        f"for {dollars(highest_cost(requests))} at most, and can take a while."
    )
    if not sys.stdin.isatty():
        return False
    return Confirm.ask("Continue?", default=False)


def _play(data: Path, clients: Sequence[Client], timeout: float, keep: bool) -> None:
    console.print("Starting Carpool on this machine …")
    with running(data) as instance:
        console.print(f"Up. Its batches are rows in Flower: {instance.flower_url}", soft_wrap=True)
        started = time.monotonic()
        with ExitStack() as stack:
            for client in clients:
                stack.callback(client.stop)
                client.start(instance)
            _watch(instance, clients, started + timeout)
        _report(instance, clients, time.monotonic() - started)
        if keep:
            console.print(f"Still up: {instance.flower_url} (Ctrl-C stops it)", soft_wrap=True)
            instance.wait()


def _watch(instance: Instance, clients: Sequence[Client], deadline: float) -> None:
    with Progress(console, open_engine(instance.database_url), clients) as progress:
        while not all(client.done for client in clients):
            progress.refresh()
            instance.check()
            if time.monotonic() > deadline:
                raise WorkerError("The answers did not arrive in time; the logs may say why.")
            time.sleep(GLANCE_SECONDS)
        progress.refresh()


def _report(instance: Instance, clients: Sequence[Client], seconds: float) -> None:
    engine = open_engine(instance.database_url)
    console.print(answers(clients))
    console.print(savings(engine))
    engine.dispose()
    answered = sum(len(client.answers) for client in clients)
    claude = "a simulator on this machine; no money was spent" if instance.simulator_url else "the real API"
    console.print(f"{answered} answers in {seconds:.1f} seconds, from {claude}.")
    console.print(
        "To look around in Flower: [bold]carpool demo --keep[/bold], or [bold]carpool up[/bold] to stay."
    )
