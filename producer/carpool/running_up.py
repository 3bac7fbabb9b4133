"""A `carpool up` that runs in this folder: producers and commands find it by themselves.

It keeps `.carpool/lock` locked for as long as it runs, and has written to `.carpool/running.json` where its parts are.
Only files of this user are believed: in a folder that others may write to, nobody else can lead a service astray.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(".carpool")
"""Where `carpool up` keeps its data unless it is told otherwise; in the working directory."""

RECORD = "running.json"
LOCK = "lock"

REDIS_URL = "CARPOOL_REDIS_URL"

log = logging.getLogger("carpool")

_told: set[Path] = set()


class RunningUp(msgspec.Struct, frozen=True):
    """Where the parts of a running `carpool up` are.

    `environment` has the variables, CARPOOL_…, that its own programs run with. `simulator` is the address of its
    simulated Anthropic API, None if it uses the real one.
    """

    environment: dict[str, str]
    simulator: str | None = None


def find(folder: Path = FOLDER) -> RunningUp | None:
    """Return the `carpool up` whose data is in `folder`; None if none runs there. It creates and changes nothing."""
    try:
        if not _is_locked(folder / LOCK):
            return None
        return msgspec.json.decode(_own(folder / RECORD), type=RunningUp)
    except (OSError, ImportError, msgspec.MsgspecError):
        return None


def announce(folder: Path = FOLDER) -> None:
    """Log, once in a process for each folder, that the `carpool up` in it is used."""
    where = folder.absolute()
    if where not in _told:
        _told.add(where)
        log.warning("CARPOOL_REDIS_URL is not set: using the `carpool up` that runs in %s", where.parent)


def _own(path: Path) -> bytes:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to somebody else")
        return file.read()


def _is_locked(path: Path) -> bool:
    import fcntl  # there is none on Windows, where no `carpool up` runs either

    shared: Any = fcntl.LOCK_SH | fcntl.LOCK_NB
    with path.open("rb") as file:
        try:
            fcntl.flock(file, shared)
        except BlockingIOError:
            return True
        return False
