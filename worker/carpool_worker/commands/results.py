"""`carpool results`: writes the answers into a file."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from carpool import RequestIds
    from carpool_worker.files.id_files import NamedRequest

CHECK_SECONDS = 1.0
"""Between two checks of what has ended."""

CHECK_PAUSES = 5
"""A check that takes long is followed by a pause of so many times its length."""

STDOUT = "-"


RunName = Annotated[str | None, typer.Argument(help="The run, as enqueue named it.", show_default=False)]
Out = Annotated[
    str,
    typer.Option("--out", "-o", metavar="FILE", help="The file to write; - is stdout.", show_default=False),
]
IdFile = Annotated[
    Path | None,
    typer.Option(
        "--ids", metavar="FILE", help="The file of ids that enqueue wrote.", show_default="RUN.ids.jsonl"
    ),
]
Client = Annotated[
    str | None, typer.Option("--client", help="All requests of this client.", show_default=False)
]
SinceDay = Annotated[
    str,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="With --client: the first day (UTC): 2026-11-01, today, or 36h, 7d, 2w for so long ago.",
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Write what has been answered by now.")]


def results(
    run: RunName = None,
    out: Out = STDOUT,
    ids: IdFile = None,
    client: Client = None,
    since: SinceDay = "1d",
    no_wait: NoWait = False,
) -> None:
    """Wait for the answers and write them, a line each, in the format of Anthropic's own batch results.

    Claude's answers are there byte for byte, in the order of the file that was enqueued; the file appears once it is
    complete. Answers are read from the database, so after a stop just run it again, for as long as answers are kept
    (answers_retention_days). The exit code is 0 if every request has its line. Examples:

        carpool results reviews -o answers.jsonl
        carpool results --ids runs/reviews.ids.jsonl -o answers.jsonl --no-wait
        carpool results --client billing --since 7d -o billing.jsonl

    With --client the custom_id is the id that enqueue returned, and requests still in the inbox are not waited for.
    """
    if [bool(run), bool(ids), bool(client)].count(True) != 1:
        raise WorkerError("name either a run, or --ids, or --client")
    from carpool import RequestIds
    from carpool_worker.commands.progress import progress_bar
    from carpool_worker.processes import preflight

    preflight.check_tables()
    names = _of_client(str(client), since) if client else _of_file(run, ids)
    wanted = RequestIds(one.id for one in names())
    with progress_bar() as bar:
        task = bar.add_task("waiting for answers", total=len(wanted))
        if not no_wait:
            _wait(wanted, bar, task)
        outcomes = _write(names(), out, bar, task)
    _report(outcomes, out)


def _of_file(run: str | None, ids: Path | None) -> Callable[[], Iterable[NamedRequest]]:
    from carpool_worker.files.id_files import path_of_run, read_names

    path = ids or path_of_run(str(run))
    if run and not path.is_file():
        raise WorkerError(
            f"there is no {path} here: name the file with --ids, or enqueue the requests again (nothing runs twice)"
        )
    return lambda: read_names(path)


def _of_client(client: str, since: str) -> Callable[[], Iterable[NamedRequest]]:
    from datetime import UTC, datetime

    from carpool import RequestIds
    from carpool_worker.commands.times import day_of
    from carpool_worker.database import engine, read
    from carpool_worker.files.id_files import NamedRequest
    from carpool_worker.views.requests import ids_of_client

    first = datetime.fromisoformat(day_of("--since", since)).replace(tzinfo=UTC)
    with read(engine()) as connection:
        ids = RequestIds(ids_of_client(connection, client, int(first.timestamp() * 1_000)))
    return lambda: (NamedRequest(one, one) for one in ids)


def _wait(ids: RequestIds, bar: Progress, task: TaskID) -> None:
    from sqlalchemy.exc import OperationalError

    from carpool_worker.database import engine
    from carpool_worker.files.result_files import outstanding

    total = len(ids)
    while ids:
        began = time.monotonic()
        try:
            ids = outstanding(engine(), ids)
            bar.update(task, completed=total - len(ids), description="waiting for answers")
        except OperationalError:  # it was there at the start, and it will be back
            bar.update(task, description="the database is away")
        if ids:
            time.sleep(max(CHECK_SECONDS, CHECK_PAUSES * (time.monotonic() - began)))


def _write(names: Iterable[NamedRequest], out: str, bar: Progress, task: TaskID) -> Counter[str]:
    from carpool_worker.database import engine
    from carpool_worker.files.result_files import write_lines
    from carpool_worker.files.writing import replacing

    bar.update(task, completed=0, description="writing")
    place: AbstractContextManager[IO[bytes]] = (
        nullcontext(sys.stdout.buffer) if out == STDOUT else replacing(Path(out))
    )
    with place as file:
        return write_lines(engine(), names, file, lambda count: bar.update(task, advance=count))


def _report(outcomes: Counter[str], out: str) -> None:
    from carpool_worker.files.result_files import MISSING

    missing = outcomes.pop(MISSING, 0)
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items())) or "none"
    where = "" if out == STDOUT else f" in {out}"
    typer.echo(f"{counted(outcomes.total(), 'result')}{where}: {counts}.", err=True)
    if missing:
        raise WorkerError(f"{counted(missing, 'request has', 'requests have')} not ended yet: run this again")
