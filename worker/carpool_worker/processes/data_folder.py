"""The data folder of `carpool up`: its lock, its secrets, and the `env` file that services source to reach it."""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO

from carpool.contract import to_json
from carpool.running_up import RECORD, RunningUp
from carpool_worker.exceptions import WorkerError
from carpool_worker.setting_files import config_path

EMBEDDED = "# embedded here"
"""The comment in the `env` file after each value that `carpool up` chose itself."""


LOOKS = 5
LOOK_SECONDS = 0.02
"""Between them, until a lock counts as that of another `carpool up`."""


class AlreadyRunning(WorkerError):
    """Another `carpool up` is already running on this data folder."""


class FolderUnusable(WorkerError):
    """The data folder can't be made, or not be written."""


def lock(data: Path) -> IO[str]:
    """Lock the data folder; the lock lasts while the file is open here or in a process that inherited it.

    Raises:
        AlreadyRunning: another process has locked it; the message names it.
        FolderUnusable: it can't be made, or not be written.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = (data / "lock").open("a+")
    except OSError as error:
        raise FolderUnusable(f"the data folder {data} can't be used: {error.strerror}") from error
    try:
        _lock_alone(file)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().strip()
        file.close()
        raise AlreadyRunning(
            f"Carpool is already running on {data} (process {pid}); to stop it: kill {pid}"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _lock_alone(file: IO[str]) -> None:
    """Lock the file, or raise BlockingIOError; who only looks whether it is locked has it for a moment."""
    for left in reversed(range(LOOKS)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(LOOK_SECONDS)
        else:
            return


def secret(path: Path, make: Callable[[], str]) -> str:
    """Return the secret in the file, which is made on first use and readable by its owner alone."""
    if not path.exists():
        _write_private(path, make() + "\n")
    return path.read_text().strip()


def write_env(data: Path, values: Mapping[str, str], embedded: Collection[str]) -> None:
    """Write the file that a service's shell sources, readable by its owner alone; `embedded` gets a comment."""
    lines = [
        f"export {name}={shlex.quote(value)}{f'  {EMBEDDED}' if name in embedded else ''}\n"
        for name, value in values.items()
    ]
    _write_private(data / "env", "".join(lines))


def read_env(data: Path, comment: str = "") -> dict[str, str]:
    """Return the variables of the `env` file whose lines end with `comment`; none if there is no file yet."""
    path = data / "env"
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = [shlex.split(line, comments=True)[1] for line in lines if line.endswith(comment)]
    return dict(pair.split("=", 1) for pair in pairs)


def write_running(data: Path, simulator: str | None) -> None:
    """Write where everything is and with which settings it runs, for the commands and producers of this folder.

    An API key of Anthropic's is not among it.
    """
    found = {name: value for name, value in os.environ.items() if name.startswith("CARPOOL_")}
    if (config := config_path()) is not None:
        found["CARPOOL_CONFIG"] = str(config.absolute())
    _write_private(data / RECORD, to_json(RunningUp(found, simulator)).decode())


def forget_running(data: Path) -> None:
    """Drop what `write_running` wrote."""
    (data / RECORD).unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
