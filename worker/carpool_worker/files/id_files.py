"""The file that `carpool enqueue` writes for `carpool results`: the custom_id and id of each request, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from carpool.contract import REQUEST_ID
from carpool_worker.exceptions import WorkerError

SUFFIX = ".ids.jsonl"


class NamedRequest(msgspec.Struct, frozen=True):
    """A request of a file: its custom_id there, and its id."""

    custom_id: str
    id: Annotated[str, msgspec.Meta(pattern=f"^{REQUEST_ID.pattern}$")]


_decode = msgspec.json.Decoder(NamedRequest).decode
encode = msgspec.json.Encoder().encode


def path_of_run(name: str) -> Path:
    """Return the default path of a run's ids: in the folder that the command is started in."""
    return Path(f"{name}{SUFFIX}")


def read_names(path: Path) -> Iterator[NamedRequest]:
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


def _decoded(path: Path, number: int, line: bytes) -> NamedRequest:
    try:
        return _decode(line)
    except ValueError as error:
        raise WorkerError(
            f"{path}, line {number:,}: not a line of {SUFFIX} as enqueue writes it: {error}"
        ) from None
