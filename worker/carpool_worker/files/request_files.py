"""A file of requests, read twice: checked as a whole, then enqueued. Only ids are held, and those on the disk."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from carpool_worker.exceptions import WorkerError
from carpool_worker.files.id_files import Named, encode, read_names, replacing
from carpool_worker.files.request_lines import Checked, Line, Run, check_all, numbered

STDIN = "-"

TOLD_LINES = 1_000
"""Lines between two words on how far the check has come."""


@contextmanager
def opened(file: str) -> Iterator[IO[bytes]]:
    """Open a file of requests; stdin (-) is put into a temporary file first, as it is read twice.

    Raises:
        WorkerError: it can't be read.
    """
    if file == STDIN:
        with tempfile.TemporaryFile() as spooled:
            shutil.copyfileobj(sys.stdin.buffer, spooled)
            spooled.seek(0)
            yield spooled
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115
    except OSError as error:
        raise WorkerError(f"{file} can't be read: {error.strerror}") from error
    with source:
        yield source


def write_ids(source: IO[bytes], run: Run, path: Path, progress: Callable[[int], None]) -> int:
    """Check all lines, write the requests' ids to `path`, and return how many there are.

    `progress` hears how many bytes are read.

    Raises:
        WorkerError: a line is wrong, the message names each; or there is none. `path` stays as it was then.
    """
    with replacing(path) as out:

        def take(line: Line) -> None:
            out.write(encode(Named(line.custom_id, line.id)) + b"\n")
            if line.number % TOLD_LINES == 0:
                progress(source.tell())

        checked = check_all(source, run, take)
        _refuse_faults(checked)
    return checked.count


def again(source: IO[bytes], run: Run, path: Path, first: int) -> Iterator[Line]:
    """Yield the lines from number `first` on, which must be those whose ids are in `path`.

    Raises:
        WorkerError: the file was changed since it was checked.
    """
    source.seek(0)
    names = read_names(path)
    for number, text in numbered(source):
        named = next(names, None)
        if number < first:
            continue
        line = run.line(number, text)
        if named is None or named.id != line.id:
            raise WorkerError(f"line {number:,} was changed since it was checked: run this again")
        yield line
    if next(names, None):
        raise WorkerError("the file was cut short since it was checked: run this again")


def _refuse_faults(checked: Checked) -> None:
    if checked.faults:
        named = "".join(f"\n  {fault}" for fault in checked.named)
        more = checked.faults - len(checked.named)
        rest = f"\n  … and {more:,} more" if more else ""
        raise WorkerError(f"nothing is enqueued, as lines are wrong ({checked.faults:,}):{named}{rest}")
    if not checked.count:
        raise WorkerError("the file has no requests")
