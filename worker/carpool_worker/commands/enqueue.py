"""`carpool enqueue`: enqueues a file of requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    from carpool import Producer
    from carpool.enqueue_options import EnqueueOptions
    from carpool_worker.files.enqueuer import Item, Stopped
    from carpool_worker.files.request_lines import FileRun

FULL_SECONDS = 1.0
"""Seconds between tries while the inbox is full."""


File = Annotated[
    str,
    typer.Option(
        "--file", "-f", metavar="FILE", help="The requests, a file or a pipe; - is stdin.", show_default=False
    ),
]
Client = Annotated[
    str | None,
    typer.Option(
        "--client", help="The client that enqueues them.", show_default="CARPOOL_CLIENT, else default"
    ),
]
Callback = Annotated[
    str | None,
    typer.Option("--callback", metavar="URL", help="A webhook that gets each answer.", show_default="none"),
]
Metadata = Annotated[
    str | None,
    typer.Option(
        "--metadata", metavar="JSON", help="An object that comes back with each answer.", show_default="none"
    ),
]
Priority = Annotated[
    int,
    typer.Option(
        "--priority", help="From -100 to 100; while the queue is full, the client's highest go first."
    ),
]
MaxWait = Annotated[
    float | None,
    typer.Option(
        "--max-wait",
        metavar="SECONDS",
        help="Send them by then, even outside submit_windows.",
        show_default="none",
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        metavar="SECONDS",
        help="Their answers should be there by then.",
        show_default="the client's, else none",
    ),
]
RunName = Annotated[
    str | None, typer.Option("--run", help="The run's name.", show_default="the file's, without its ending")
]
IdFile = Annotated[
    Path | None,
    typer.Option(
        "--ids",
        metavar="FILE",
        help="The file that the ids are written to.",
        show_default="RUN.ids.jsonl here",
    ),
]
FromLine = Annotated[
    int, typer.Option("--from-line", min=1, help="Start at this line, to go on after a stop.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Stop if the inbox is full, instead of waiting.")]


def enqueue(
    file: File,
    client: Client = None,
    callback: Callback = None,
    metadata: Metadata = None,
    priority: Priority = 0,
    max_wait: MaxWait = None,
    deadline: Deadline = None,
    run: RunName = None,
    ids: IdFile = None,
    from_line: FromLine = 1,
    no_wait: NoWait = False,
) -> None:
    """Enqueue a file of requests, one a line, in the format of Anthropic's own batches.

    The whole file is checked first: if any line is wrong, nothing is enqueued. A line is identified by its run, its
    custom_id and its params, so a line that is enqueued twice runs once, and after a change only the changed lines run.
    To run a whole file again, name another --run. While the inbox is full, it waits. A file of any size takes two
    commands:

        carpool enqueue -f reviews.jsonl
        carpool results reviews -o answers.jsonl

    A line: {"custom_id": "r-1", "params": {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": […]}}
    """
    from carpool_worker.files import id_files, request_files

    common, given = _options(callback, priority, max_wait, deadline), _object(metadata)
    one, producer = _begin(file, run, client, common, given)
    path = ids or id_files.path_of_run(one.name)
    with producer, request_files.opened(file) as source:
        count = _check(source, one, path)
        lines = request_files.read_again(source, one, path, from_line)
        _feed(producer, common, ((line, one.request(line, given)) for line in lines), count, no_wait)
    typer.echo(f"{counted(count, 'request')} of client {one.client!r} enqueued, as run {one.name!r}.")
    typer.echo(f"Their answers: carpool results --ids {path} -o {one.name}.results.jsonl")


def _options(
    callback: str | None, priority: int, max_wait: float | None, deadline: float | None
) -> EnqueueOptions:
    from carpool import Webhook
    from carpool.enqueue_options import EnqueueOptions

    hook = Webhook(callback) if callback else None
    return EnqueueOptions(callback=hook, priority=priority, max_wait=max_wait, deadline=deadline)


def _object(metadata: str | None) -> dict[str, Any]:
    try:
        value = json.loads(metadata or "{}")
    except ValueError as error:
        raise WorkerError(f"--metadata: {error}") from None
    if not isinstance(value, dict):
        raise WorkerError("--metadata: must be a JSON object")
    return value


def _begin(
    file: str, name: str | None, client: str | None, common: EnqueueOptions, metadata: dict[str, Any]
) -> tuple[FileRun, Producer]:
    """Return the run, once what its requests have in common is checked, and a producer of its client."""
    from carpool import CarpoolError, Producer
    from carpool_worker.processes.preflight import check_redis_files
    from carpool_worker.settings import settings

    try:
        run = _run(file, name, client, common, metadata)
        found = settings()
        shards, prefix = found.inbox_shards, found.key_prefix
        check_redis_files()
        return run, Producer(found.redis_url, client=run.client, inbox_shards=shards, key_prefix=prefix)
    except CarpoolError as error:
        raise WorkerError(str(error)) from error


def _run(
    file: str, name: str | None, client: str | None, common: EnqueueOptions, metadata: dict[str, Any]
) -> FileRun:
    """Check what all requests have in common.

    Raises:
        CarpoolError, WorkerError: some of it is wrong.
    """
    from carpool.enqueue_options import EnqueueOptions
    from carpool.envelopes import check_options
    from carpool.options import Options
    from carpool_worker.files.request_files import STDIN
    from carpool_worker.files.request_lines import RUN_NAME, FileRun
    from carpool_worker.files.writing import SPECIAL
    from carpool_worker.settings import settings

    if name is None and (file == STDIN or file.startswith(SPECIAL)):
        raise WorkerError(f"--run: name the run, as {'stdin' if file == STDIN else file} has no name")
    found = name or re.sub("[^A-Za-z0-9_.-]", "-", Path(file).stem)
    if not RUN_NAME.fullmatch(found):
        raise WorkerError(f"--run {found}: must be 1 to 64 letters, digits, dots, dashes or underscores")
    options = Options.resolve(settings().redis_url, client, 0, allow_http=False)
    longest = {**metadata, "run": found, "custom_id": "x" * 64}
    check_options(options.client, common | EnqueueOptions(metadata=longest), allow_http=options.allow_http)
    return FileRun(found, options.client)


def _check(source: IO[bytes], run: FileRun, path: Path) -> int:
    import os

    from carpool_worker.commands.progress import progress_bar
    from carpool_worker.files.request_files import write_ids

    with progress_bar() as bar:
        task = bar.add_task("checking", total=os.fstat(source.fileno()).st_size)
        return write_ids(source, run, path, lambda place: bar.update(task, completed=place))


def _feed(
    producer: Producer, common: EnqueueOptions, items: Iterator[Item], count: int, no_wait: bool
) -> None:
    import time

    from carpool import QueueFull
    from carpool_worker.commands.progress import progress_bar
    from carpool_worker.files.enqueuer import FileEnqueuer, Stopped

    with progress_bar() as bar:
        task = bar.add_task("enqueueing", total=count)

        def accepted(number: int) -> None:
            bar.update(task, advance=number, description="enqueueing")

        def wait(refusal: QueueFull) -> None:
            bar.update(task, description=f"waiting: {refusal}")
            time.sleep(FULL_SECONDS)

        enqueuer = FileEnqueuer(producer, common, accepted, None if no_wait else wait)
        try:
            enqueuer.enqueue_all(items)
        except Stopped as stop:
            raise WorkerError(_how_to_go_on(stop, bar.tasks[task].completed, count)) from stop


def _how_to_go_on(stop: Stopped, enqueued: float, count: int) -> str:
    done = f"{enqueued:,.0f} of {count:,} were enqueued, all before line {stop.line:,}"
    return f"{stop}. {done}: go on with --from-line {stop.line}"
