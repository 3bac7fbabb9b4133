"""The file that `carpool enqueue` leaves for `carpool results`: custom_id and id of each request, in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated

import msgspec

from carpool_worker.exceptions import WorkerError

SUFFIX = ".ids.jsonl"


class Named(msgspec.Struct, frozen=True):
    """A request of a file: the name that the file gives it, and its id."""

    custom_id: str
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


_decode = msgspec.json.Decoder(Named).decode
encode = msgspec.json.Encoder().encode


def of_run(name: str) -> Path:
    """Return where a run's ids are by default: in the folder that the command is started in."""
    return Path(f"{name}{SUFFIX}")


def read_names(path: Path) -> Iterator[Named]:
    """Yield a file's requests, in order.

    Raises:
        WorkerError: it can't be read, or a line is not of this form.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _decoded(path, number, line)
    except OSError as error:
        raise WorkerError(f"{path} can't be read: {error.strerror}") from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of `path` when all went well; else that stays as it was.

    Raises:
        WorkerError: it can't be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise WorkerError(f"{path} can't be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _decoded(path: Path, number: int, line: bytes) -> Named:
    try:
        return _decode(line)
    except ValueError as error:
        raise WorkerError(
            f"{path}, line {number:,}: no line of {SUFFIX}, as enqueue writes it: {error}"
        ) from None
