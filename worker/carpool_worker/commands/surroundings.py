"""What a command says where Redis, the database, the disk or an installation fails it: one line, no traceback."""

from __future__ import annotations

import errno
import os
import sys

DATABASE = "start it, or correct CARPOOL_DATABASE_URL"
DISK = "make room or give this user the right to it, or name another place"
PACKAGES = "pip install 'carpool[worker]', or name what is installed (CARPOOL_DATABASE_URL: postgresql://)"
MIGRATE = "run carpool migrate"
ENCODING = "use UTF-8 (LC_ALL=C.UTF-8)"

OF_THE_DISK = (
    "attempt to write a readonly",
    "database or disk is full",
    "disk I/O error",
    "unable to open database",
)
"""How SQLite begins what it says of its file and the disk."""

NO_TABLES = {"42P01", "42703"}
"""SQLSTATE of PostgreSQL: there is no such table, or column."""

NO_RIGHTS = {"42501"}
"""SQLSTATE of PostgreSQL: this user may not do that."""


def sentence(error: Exception) -> str | None:
    """Return what is wrong with the surroundings, and what to do; None if the error is about something else: a bug."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed: {PACKAGES}"
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, UnicodeEncodeError):
        return _of_the_locale(error)
    return _of_redis(error) or _of_the_database(error)


def _of_the_system(error: OSError) -> str | None:
    if error.errno in (None, errno.EPIPE):  # a reader that has left is for click to handle
        return None
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{where}{error.strerror}: {DISK}"


def _of_the_locale(error: UnicodeEncodeError) -> str | None:
    """Return that an argument is not in the encoding of the locale: such bytes are half surrogates in Python's text."""
    said = error.object[error.start : error.end]
    if not all("\udc80" <= character <= "\udcff" for character in said):
        return None
    return f"{error.object} is not in this terminal's encoding, {sys.getfilesystemencoding()}: {ENCODING}"


def _of_redis(error: Exception) -> str | None:
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    if isinstance(error, RedisError | OperationalError):
        from carpool_worker.processes.preflight import redis_and_mend

        where, mend = redis_and_mend(error)
        return f"Redis at {where} can't be used: {_first_line(error)}: {mend}"
    return None


def _of_the_database(error: Exception) -> str | None:
    from sqlalchemy import exc

    if isinstance(error, exc.ArgumentError):
        return f"The database can't be used: {_first_line(error)}: {DATABASE}"
    if not isinstance(error, exc.DBAPIError):
        return None
    reason, state = _first_line(error.orig or error), getattr(error.orig, "sqlstate", None)
    if state in NO_TABLES or reason.startswith(("no such table", "no such column")):
        return f"The database has not the tables of this version: {MIGRATE}"
    if isinstance(error, exc.OperationalError | exc.InternalError | exc.InterfaceError) or state in NO_RIGHTS:
        mend = DISK if reason.startswith(OF_THE_DISK) else DATABASE
        return f"The database can't be used: {reason}: {mend}"
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
