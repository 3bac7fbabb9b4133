"""`carpool up` and `carpool demo`: everything on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carpool_worker.commands.fault_kinds import FaultKinds
from carpool_worker.commands.options import Concurrency, Data, Latency


def up(
    data: Data = Path(".carpool"),
    latency: Latency = 1.0,
    concurrency: Concurrency = 8,
    fault: FaultKinds = None,
    any_port: Annotated[
        bool,
        typer.Option(
            "--any-port",
            help="Use any free ports, instead of 8088, 5555, 9465, 8082 and 6399 or the next free ones.",
        ),
    ] = False,
) -> None:
    """Run everything on this machine until Ctrl-C.

    It migrates the database, then runs the worker, beat, the gateway, Flower and the metrics; a Valkey server and a
    SQLite database in the data folder, unless CARPOOL_REDIS_URL or CARPOOL_DATABASE_URL name others; and a simulated
    Message Batches API, unless ANTHROPIC_API_KEY is set. Commands and a Producer() in the same folder find it by
    themselves; other shells and programs source .carpool/env.

    With the simulator it is quick: batches wait 2 seconds for more requests, and webhooks go to this machine, plain
    http too, and nowhere else. What is set, in the environment or in config/carpool.toml, is as it is set. Examples:

        carpool up
        carpool up --fault wrong-key
    """
    from carpool_worker.processes.up import run

    code = run(data, latency=latency, concurrency=concurrency, any_port=any_port, faults=fault or ())
    raise typer.Exit(code)


def demo(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Text files to summarise.", show_default=False)
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Don't ask before spending money on the real API.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Stay up at the end, to explore it in Flower.")
    ] = False,
) -> None:
    """See it work: three clients, two models, and a table of what it saved.

    It summarises FILES (by default this project's own texts) and classifies 200 short reviews, on a `carpool up` of its
    own in a temporary folder. If ANTHROPIC_API_KEY is set it uses the real API, once you agree to what that costs.
    """
    from carpool_worker.demo import run

    raise typer.Exit(run(files or [], yes=yes, keep=keep))
