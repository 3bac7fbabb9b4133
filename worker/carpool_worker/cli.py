"""The command line. Each command imports what it needs when it runs, so that `--help` is fast."""

from __future__ import annotations

import atexit
import gc
import io
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

from carpool_worker.commands import batches, clients, deliveries, keys, lanes, processes, quarantine, requests
from carpool_worker.commands.advise import advise
from carpool_worker.commands.cancel import cancel
from carpool_worker.commands.config import config
from carpool_worker.commands.console import console
from carpool_worker.commands.doctor import doctor
from carpool_worker.commands.enqueue import enqueue
from carpool_worker.commands.gateway import gateway
from carpool_worker.commands.listen import listen, trigger
from carpool_worker.commands.metrics import metrics
from carpool_worker.commands.purge import purge
from carpool_worker.commands.reconcile import reconcile
from carpool_worker.commands.results import results
from carpool_worker.commands.retry import retry
from carpool_worker.commands.simulator import simulator
from carpool_worker.commands.status import status
from carpool_worker.commands.up import demo, up
from carpool_worker.commands.usage import usage
from carpool_worker.exceptions import WorkerError

GARBAGE_THRESHOLDS = (50_000, 20, 20)
"""Objects between two collections, and collections between those of older generations: imports make a million
objects and drop few, and searching them again and again takes a tenth of the start."""


class OneLineErrors(TyperGroup):
    """Commands whose expected errors are one line on stderr and exit code 1, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except WorkerError as error:
            raise _ended(str(error)) from error
        except Exception as error:
            from carpool_worker.commands.surroundings import sentence

            if (said := sentence(error)) is None:
                raise
            raise _ended(said) from error


def _ended(said: str) -> typer.Exit:
    typer.echo(f"carpool: {said}", err=True)
    return typer.Exit(1)


class FirstRecord(logging.Handler):
    """Begins logging at the first record that no handler takes, so that a command that logs nothing stays quick.

    As text, for whoever watches a terminal, it writes warnings and worse; as JSON, what operators do as well. Records
    of loggers that keep them from the root, as billiard's does, come here even after logging has begun.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Begin as the settings say unless logging has begun, and pass the record to the root's handlers."""
        root = logging.getLogger()
        if not root.handlers:
            from carpool_worker.settings import settings
            from carpool_worker.telemetry import logs

            log_format = settings().log_format
            logs.begin(log_format, logging.INFO if logs.is_json(log_format) else logging.WARNING)
        if logging.getLogger(record.name).isEnabledFor(record.levelno):  # which may have changed just now
            root.handle(record)


def _type_of(option: TyperOption, ctx: Any) -> str | None:
    return None if option.is_flag and option.metavar is None else _type_in_help(option, ctx)


# Help would give a flag, which takes no value, the type <bool>.
_type_in_help = TyperOption.display_type_rich
TyperOption.display_type_rich = _type_of  # type: ignore[assignment]


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from carpool import __version__

        typer.echo(f"carpool {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
]


@app.callback()
def carpool(context: typer.Context, version: Version = False) -> None:
    """Pools single Claude requests from many services into Message Batches, at half the price.

    **carpool demo** shows it working; **carpool up** runs everything on this machine; **worker**, **beat**
    and **flower** are the parts of a deployment of your own.

    Settings come from CARPOOL_* in the environment, else from the file that CARPOOL_CONFIG names (by default
    config/carpool.toml, if there is one), which explains each of them. The ones to know first: CARPOOL_REDIS_URL,
    CARPOOL_DATABASE_URL, CARPOOL_FLUSH_INTERVAL, CARPOOL_WEBHOOK_SECRET, ANTHROPIC_API_KEY. Commands find a
    **carpool up** that runs in this folder by themselves.
    """
    from carpool_worker.commands.adoption import adopt

    adopt(context.invoked_subcommand)


COMMANDS: dict[str, Sequence[Callable[..., None]]] = {
    "Run it": (
        *(demo, up, processes.migrate, processes.worker, processes.beat, processes.flower),
        *(gateway, console, metrics, simulator, config),
    ),
    "Develop": (listen, trigger),
    "Look": (status, doctor, lanes.lanes, reconcile),
    "Act": (lanes.flush, lanes.pause, lanes.resume, cancel, retry, purge),
    "Files and money": (enqueue, results, usage, advise),
}
"""The commands, by their panels in `--help`."""

GROUPS = {
    "batches": batches.app,
    "requests": requests.app,
    "deliveries": deliveries.app,
    "clients": clients.app,
    "keys": keys.app,
    "quarantine": quarantine.app,
}
"""Lists that have commands of their own; they come last in their panel."""

for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name, rich_help_panel="Look")


def main() -> None:
    """Run the command that the arguments name."""
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    _write_what_the_terminal_can_show()
    atexit.register(gc.freeze)  # spares the worker a last collection of half a second at its end
    logging.lastResort = FirstRecord()  # services have handlers of their own
    logging.getLogger().setLevel(logging.INFO)
    try:
        app()
    except OSError as error:  # of what is printed before any command runs: help, on a full disk
        from carpool_worker.commands.surroundings import sentence

        if (said := sentence(error)) is None:
            raise
        sys.exit(f"carpool: {said}")


def _write_what_the_terminal_can_show() -> None:
    # In another encoding than UTF-8, as under cron, a character that it lacks becomes a question mark.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
