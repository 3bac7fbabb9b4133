"""The command line. Each command imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import atexit
import gc
import os
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from carpool_worker.commands import batches, clients, deliveries, lanes, quarantine, requests
from carpool_worker.commands.advise import advise
from carpool_worker.commands.cancel import cancel
from carpool_worker.commands.doctor import doctor
from carpool_worker.commands.enqueue import enqueue
from carpool_worker.commands.flower import flower
from carpool_worker.commands.metrics import metrics
from carpool_worker.commands.purge import purge
from carpool_worker.commands.results import results
from carpool_worker.commands.retry import retry
from carpool_worker.commands.status import status
from carpool_worker.commands.usage import usage
from carpool_worker.exceptions import WorkerError

QUEUES = "carpool.aggregate,carpool.submit,carpool.poll,carpool.collect,carpool.deliver,carpool.enqueue"

GARBAGE_THRESHOLDS = (50_000, 20, 20)
"""Objects between two collections, and collections between those of the older ones: imports make a million objects and
drop few, and looking through them ever again takes a tenth of the start."""


T = TypeVar("T")


class OneLineErrors(TyperGroup):
    """Commands whose expected errors are one line on stderr and exit code 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except WorkerError as error:
            typer.echo(f"carpool: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[Path, typer.Option(help="The folder for embedded servers, logs and secrets.")]
Latency = Annotated[float, typer.Option(min=0, help="Seconds that a simulated batch takes.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Tasks that the worker runs at once, a process each.")]


@app.callback()
def carpool() -> None:
    """Pools single Claude requests from many services into Message Batches, at half the price.

    **carpool demo** shows it working; **carpool up** runs everything on this machine; **worker**, **beat**
    and **flower** are its parts for a deployment of your own.

    Settings come from CARPOOL_* in the environment, else from the file that CARPOOL_CONFIG names (config/carpool.toml
    where there is one), which explains each. The ones to know: CARPOOL_REDIS_URL, CARPOOL_DATABASE_URL,
    CARPOOL_FLUSH_INTERVAL, CARPOOL_WEBHOOK_SECRET, ANTHROPIC_API_KEY.
    """


@app.command()
def up(
    data: Data = Path(".carpool"),
    latency: Latency = 10.0,
    concurrency: Concurrency = 8,
    any_port: Annotated[
        bool,
        typer.Option(
            "--any-port", help="Take any free ports, not 5555, 9465, 8082 and 6399 or the next free ones."
        ),
    ] = False,
) -> None:
    """Run everything on this machine until Ctrl-C.

    That is the worker, beat, Flower and the metrics, migrations first; a Valkey server and a SQLite database in the
    data folder unless CARPOOL_REDIS_URL or CARPOOL_DATABASE_URL name others; and a simulator of the Message Batches API
    unless ANTHROPIC_API_KEY is set. Example, for services in another shell:

        carpool up --latency 5
        source .carpool/env
    """
    from carpool_worker.up import run

    raise typer.Exit(run(data, latency=latency, concurrency=concurrency, any_port=any_port))


@app.command()
def demo(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Text files to summarise.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask before spending on the real API.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Stay up at the end, to look around in Flower.")
    ] = False,
) -> None:
    """See it work: three clients, two models, and a table of what it saved.

    Summarises FILES (this project's own texts by default) and classifies 200 short reviews, on a `carpool up` of its
    own in a temporary folder. With ANTHROPIC_API_KEY set it asks the real API, once you agree to what that costs.
    """
    from carpool_worker.demo import run

    raise typer.Exit(run(files or [], yes=yes, keep=keep))


@app.command()
def worker(
    queues: Annotated[str, typer.Option(help="The queues to work on, comma-separated.")] = QUEUES,
    concurrency: Concurrency = 8,
) -> None:
    """Run a Celery worker for some or all of the agents.

    Any number may run, on any number of machines. Example, a machine for deliveries alone:

        carpool worker --queues carpool.deliver --concurrency 3
    """
    # SIGTERM bounds how long running tasks may still take, where Celery would wait for them without end; it reads
    # this when it is imported. What is stopped so is done again.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    from carpool_worker import preflight
    from carpool_worker.worker_process import run

    preflight.check_redis()
    preflight.check_tables()

    run(queues, concurrency)


@app.command()
def beat() -> None:
    """Run the clock: it tells the agents to look for work, and keeps no state. Run one."""
    from carpool_worker import logs, preflight

    preflight.check_redis()
    # Not through Celery's command line: that takes longer to import than the clock.
    clock = {"scheduler": "carpool_worker.clock:Clock", "loglevel": "WARNING", "quiet": logs.is_json()}
    _celery_without_tasks().Beat(**clock).run()


@app.command()
def simulator(
    data: Data = Path(".carpool/simulator"),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")
    ] = 8082,
    latency: Latency = 10.0,
    queue_limit: Annotated[int, typer.Option(min=1, help="Requests that may wait in all batches.")] = 200_000,
    fault: Annotated[
        list[str] | None, typer.Option(help="A fault to arm, as JSON; may be repeated.", show_default=False)
    ] = None,
    script: Annotated[
        list[str] | None,
        typer.Option(help="An outcome to script, as JSON; may be repeated.", show_default=False),
    ] = None,
) -> None:
    """Serve a Message Batches API that runs here, costs nothing and says so in its answers.

    The anthropic SDK talks to it as to the real one. Example:

        carpool simulator --latency 5
        ANTHROPIC_BASE_URL=http://127.0.0.1:8082 ANTHROPIC_API_KEY=simulated python your_program.py

    Faults and outcomes come on request, here or while it runs: POST the same JSON to /simulator/faults or
    /simulator/scripts. What was run and billed: GET /simulator/ledger, and /simulator/ledger/entries line by line.

        carpool simulator --fault '{"operation": "create", "kind": "lost"}'
        carpool simulator --script '{"contains": "poison", "outcome": "errored", "error_type": "api_error"}'
    """
    from carpool_worker import logs, preflight
    from carpool_worker.simulator import Fault, Script, SimulatorOptions, serve

    logs.begin()
    preflight.check_port(host, port)

    faults, scripts = _decoded("--fault", fault, Fault), _decoded("--script", script, Script)
    serve(
        SimulatorOptions(
            data=data,
            host=host,
            port=port,
            latency=latency,
            queue_limit=queue_limit,
            faults=faults,
            scripts=scripts,
        )
    )


def _decoded(option: str, texts: list[str] | None, kind: type[T]) -> list[T]:
    import msgspec

    try:
        return [msgspec.json.decode(text, type=kind) for text in texts or []]
    except msgspec.MsgspecError as error:
        raise WorkerError(f"{option}: {error}") from error


@app.command()
def migrate() -> None:
    """Make the database's tables, or bring them up to this version; where they are, nothing happens."""
    from carpool_worker import preflight

    preflight.migrate()
    typer.echo("The tables are up to date.")


app.command()(flower)
app.command()(enqueue)
app.command()(results)
app.command()(doctor)
app.command()(usage)
app.command()(advise)


app.add_typer(deliveries.app, name="deliveries")
app.add_typer(batches.app, name="batches")
app.add_typer(requests.app, name="requests")
app.add_typer(clients.app, name="clients")
app.add_typer(quarantine.app, name="quarantine")
app.command()(status)
app.command()(metrics)
for command in (lanes.lanes, lanes.flush, lanes.pause, lanes.resume):
    app.command()(command)
app.command()(purge)
app.command()(cancel)
app.command()(retry)


def _celery_without_tasks() -> Any:
    """Return the Celery app for who only sends and sees names of tasks: what the agents import takes seconds."""
    from carpool_worker.app import app as celery

    celery.conf.include = ()
    return celery


def main() -> None:
    """Run the command that the arguments name."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    atexit.register(gc.freeze)  # at the end nothing is searched once more: half a second, for the worker
    app()


if __name__ == "__main__":
    main()
