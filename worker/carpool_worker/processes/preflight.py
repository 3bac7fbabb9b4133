"""Checks before a command starts, so that a problem is one line here and not fifty lines from Celery.

Each check imports what it needs itself: beat needs no database, and the simulator needs nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

from carpool_worker.exceptions import WorkerError

REDIS_STARTS_WITHIN = 10
"""Seconds to wait for a Redis that is still starting."""

MEND = "start it, or correct CARPOOL_REDIS_URL (CARPOOL_BROKER_URL where that is set)"
START = "start Carpool here with `carpool up`, or set CARPOOL_REDIS_URL"
"""What to do without Redis: where somebody has named one, and where nobody has."""

TIMEOUTS = {"socket_connect_timeout": 5, "socket_timeout": 5}
"""Seconds, of the check alone: something that listens and never answers is no Redis."""

FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Options of the URL that name files."""

UNUSABLE = "The database can't be used (CARPOOL_DATABASE_URL)"


def check_redis(starts_within: float = REDIS_STARTS_WITHIN) -> None:
    """Raise WorkerError unless Redis answers; one that is starting gets so many seconds, and the log says so."""
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as RedisAway
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as RedisSilent
    from redis.retry import Retry

    from carpool.redis_url import NOT_TRUSTED
    from carpool_worker.settings import settings
    from carpool_worker.telemetry.logs import get_logger

    check_redis_files()
    at_once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), **TIMEOUTS}
    deadline, is_waiting = monotonic() + starts_within, False
    try:
        with settings().redis(**at_once) as connection:
            while True:
                try:
                    connection.ping()
                except (RedisAway, RedisSilent) as error:
                    if monotonic() > deadline or NOT_TRUSTED in str(error):
                        raise
                    if not is_waiting:
                        get_logger(__name__).warning("waiting for Redis", error=str(error))
                    is_waiting = True
                    sleep(1)
                else:
                    return
    except (RedisError, ValueError) as error:
        where, mend = redis_and_mend(error)
        raise WorkerError(f"Redis at {where} can't be used: {str(error).rstrip('.')}: {mend}") from error


def redis_and_mend(error: Exception) -> tuple[str, str]:
    """Return the URL of Redis without its password and who named it, and what to do where it can't be used."""
    from carpool.redis_url import NOT_TRUSTED, TRUST_IT, without_secrets
    from carpool_worker.setting_files import config_path
    from carpool_worker.settings import settings

    one = settings()
    shown = without_secrets(one.redis_url)
    mend = TRUST_IT if NOT_TRUSTED in str(error) else MEND
    if os.environ.get("CARPOOL_REDIS_URL"):
        return f"{shown} (CARPOOL_REDIS_URL)", mend
    if "redis_url" in one.model_fields_set:
        return f"{shown} (redis_url in {config_path()})", mend
    return (
        f"{shown} (the default: CARPOOL_REDIS_URL is not set, and no `carpool up` runs in this folder)",
        START,
    )


def check_redis_files() -> None:
    """Raise WorkerError if Redis' URL names a file of certificates that can't be read: later errors don't name it."""
    from carpool_worker.settings import settings

    with settings().redis() as connection:
        given = connection.connection_pool.connection_kwargs
    for name in FILES:
        if (path := given.get(name)) and not os.access(path, os.R_OK):
            raise WorkerError(
                f"CARPOOL_REDIS_URL names {path} as its {name}, which can't be read: correct it"
            )


def check_key() -> None:
    """Raise WorkerError if the API key of the environment can't be sent, as with a newline at its end."""
    from carpool_worker.claude.credentials import DEFAULT, unsendable

    if why := unsendable(DEFAULT):
        raise WorkerError(why)


def check_tables() -> None:
    """Raise WorkerError unless the database answers and has this version's tables."""
    from carpool_worker.database import open_engine
    from carpool_worker.migrations import check_migrated
    from carpool_worker.settings import settings

    with _one_line():
        engine = open_engine(settings().database_url)
        check_migrated(engine)
        engine.dispose()


def migrate() -> None:
    """Bring the tables up to this version, or raise WorkerError if the database doesn't answer."""
    from carpool_worker.migrations import upgrade
    from carpool_worker.settings import settings

    with _one_line():
        upgrade(settings().database_url)


def check_port(host: str, port: int) -> None:
    """Raise WorkerError unless this process can listen on `port` of `host`; it always can on port 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise WorkerError(f"{host}:{port} can't be listened on: {error.strerror}") from error


@contextmanager
def _one_line() -> Iterator[None]:
    from sqlalchemy.exc import ArgumentError, OperationalError

    try:
        yield
    except ModuleNotFoundError as error:
        known = "Carpool runs on sqlite:/// and postgresql://"
        raise WorkerError(f"{UNUSABLE}: {error.name} is not installed; {known}") from error
    except (OperationalError, ArgumentError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise WorkerError(f"{UNUSABLE}: {reason}") from error
