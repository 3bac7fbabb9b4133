"""Writes a file as a whole or not at all; into what is no file, such as a pipe or a device, as it comes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from carpool_worker.exceptions import WorkerError

SPECIAL = ("/dev/", "/proc/")
"""Folders of names for what is open or a device: never is a file put in the place of one."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path` if all goes well; otherwise `path` stays as it was.

    A link stays, what it leads to is replaced, and keeps its permissions. A pipe or a device is written to.

    Raises:
        WorkerError: it can't be written.
    """
    try:
        if is_special(path):
            with path.open("wb") as file:
                yield file
            return
        with _part_of(Path(os.path.realpath(path))) as file:
            yield file
    except OSError as error:
        raise WorkerError(f"{path} can't be written: {error.strerror}") from error


def is_special(path: Path) -> bool:
    """Return whether a path leads to something that is neither a file nor a folder, or is a name for such things."""
    if os.path.abspath(path).startswith(SPECIAL):  # noqa: PTH100 - resolving would follow the link
        return True
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def _part_of(whole: Path) -> Iterator[IO[bytes]]:
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            if whole.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(whole.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(whole)
    finally:
        with suppress(OSError):
            part.unlink()
