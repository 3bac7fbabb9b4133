"""`carpool worker`, `beat`, `flower` and `migrate`: the processes of a deployment, and the tables they need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from carpool_worker.commands.options import Address, Concurrency
from carpool_worker.coordination.keys import QUEUES

Alive = Annotated[
    Path | None,
    typer.Option(
        "--alive",
        metavar="FILE",
        help="A file to touch every few seconds while connected to Redis, for probes.",
        show_default=False,
    ),
]


def worker(
    queues: Annotated[str, typer.Option(help="The queues to work on, comma-separated.")] = ",".join(QUEUES),
    concurrency: Concurrency = 8,
    alive: Alive = None,
) -> None:
    """Run a Celery worker for some or all of the agents.

    Any number of them may run, on any number of machines; each agent has a queue of its own, so a worker can also serve
    just some of them. A probe looks at the age of the file that --alive names. Example, a machine for deliveries alone:

        carpool worker --queues carpool.deliver --concurrency 3 --alive /run/carpool/alive
    """
    if unknown := [name for name in queues.split(",") if name not in QUEUES]:
        raise typer.BadParameter(
            f"there is no queue {unknown[0]!r}; there are {', '.join(QUEUES)}", param_hint="--queues"
        )
    # After SIGTERM running tasks get a bounded time, where Celery would wait for them without end; it reads this when
    # it is imported. A task that is stopped this way is run again.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    from carpool_worker.processes import preflight

    preflight.check_tables()  # first, as a wrong URL is known at once, and Redis may be starting
    preflight.check_redis()
    from carpool_worker.processes.worker import run  # takes seconds to import

    run(queues, concurrency, str(alive) if alive else None)


def beat(alive: Alive = None) -> None:
    """Run the clock that wakes the agents when there is work. It keeps no state; run exactly one."""
    from carpool_worker.processes import preflight

    preflight.check_redis()
    from carpool_worker.app import app  # takes seconds to import
    from carpool_worker.processes.alive import announce
    from carpool_worker.settings import settings
    from carpool_worker.telemetry import logs

    # Not through Celery's command line, which takes longer to import than the clock does.
    clock = {
        "scheduler": "carpool_worker.processes.beat:BeatScheduler",
        "loglevel": "WARNING",
        "quiet": logs.is_json(settings().log_format),
    }
    announce(app, alive)
    app.Beat(**clock).run()


def flower(
    address: Address = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 5555,
) -> None:
    """Run Flower, in which each batch is a row, from its first request to what it cost.

    To listen beyond this machine it needs a password: FLOWER_BASIC_AUTH=user:password. It is read-only unless
    FLOWER_READ_ONLY=false. Its options come from FLOWER_* in the environment and from config/flower.py in this folder,
    which explains each of them. Example:

        FLOWER_BASIC_AUTH=ops:… carpool flower --address 0.0.0.0
    """
    from carpool_worker.processes import flower as flower_process
    from carpool_worker.processes import preflight

    flower_process.prepare(address)
    preflight.check_port(address, port)
    preflight.check_redis()
    flower_process.run(address, port)


def migrate() -> None:
    """Create the database's tables, or bring them up to this version. To run it again does no harm."""
    from carpool_worker.processes import preflight

    preflight.migrate()
    typer.echo("The tables are up to date.")
