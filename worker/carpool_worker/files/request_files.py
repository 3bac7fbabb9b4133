"""A file of requests, read twice: first checked as a whole, then enqueued. Only ids are kept, on disk."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from carpool_worker.exceptions import WorkerError
from carpool_worker.files.formats import refuse_other_formats
from carpool_worker.files.id_files import NamedRequest, encode, read_names
from carpool_worker.files.request_lines import CheckedFile, FileRun, RequestLine, check_all, numbered
from carpool_worker.files.writing import is_special, replacing
from carpool_worker.formatting import counted

STDIN = "-"

PROGRESS_LINES = 1_000
"""Lines between two reports of progress."""


@contextmanager
def opened(file: str) -> Iterator[IO[bytes]]:
    """Open a file of requests; stdin (-) or a pipe is copied into a temporary file first, as it is read twice.

    Raises:
        WorkerError: it can't be read, or is in another format.
    """
    with ExitStack() as stack:
        try:
            source = sys.stdin.buffer if file == STDIN else stack.enter_context(Path(file).open("rb"))
            if file == STDIN or not source.seekable():
                source = stack.enter_context(_spooled(source))
        except OSError as error:
            raise WorkerError(f"{file} can't be read: {error.strerror}") from error
        refuse_other_formats(file, source)
        yield source


@contextmanager
def _spooled(source: IO[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as spooled:
        shutil.copyfileobj(source, spooled)
        spooled.seek(0)
        yield spooled


def write_ids(source: IO[bytes], run: FileRun, path: Path, progress: Callable[[int], None]) -> int:
    """Check all lines, write the requests' ids to `path`, and return how many there are.

    Calls `progress` with the number of bytes read.

    Raises:
        WorkerError: some lines are invalid (the message names them), or there are none. `path` is unchanged then.
            Or `path` is no file.
    """
    if is_special(path):
        raise WorkerError(f"--ids {path}: must be a file, as it is read again")
    with replacing(path) as out:

        def take(line: RequestLine) -> None:
            out.write(encode(NamedRequest(line.custom_id, line.id)) + b"\n")
            if line.number % PROGRESS_LINES == 0:
                progress(source.tell())

        checked = check_all(source, run, take)
        _refuse_faults(checked)
    return checked.count


def read_again(source: IO[bytes], run: FileRun, path: Path, first: int) -> Iterator[RequestLine]:
    """Yield the lines from number `first` on; they must be the ones whose ids are in `path`.

    Raises:
        WorkerError: the file has changed since it was checked.
    """
    source.seek(0)
    names = read_names(path)
    for number, text in numbered(source):
        named = next(names, None)
        if number < first:
            continue
        line = run.line(number, text)
        if named is None or named.id != line.id:
            raise WorkerError(f"line {number:,} has changed since it was checked: run this again")
        yield line
    if next(names, None):
        raise WorkerError("the file has been cut short since it was checked: run this again")


def _refuse_faults(checked: CheckedFile) -> None:
    if checked.faults:
        named = "".join(f"\n  {fault}" for fault in checked.named)
        more = checked.faults - len(checked.named)
        rest = f"\n  … and {more:,} more" if more else ""
        raise WorkerError(
            f"nothing was enqueued: {counted(checked.faults, 'line is', 'lines are')} invalid:{named}{rest}"
        )
    if not checked.count:
        raise WorkerError("the file has no requests")
