"""Checks before a command starts, so that a problem is one line here and not fifty lines from Celery.

Each check imports what it needs itself: beat needs no database, and the simulator needs nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from carpool_worker.exceptions import WorkerError

REDIS_STARTS_WITHIN = 10
"""Seconds to wait for a Redis that is still starting."""


def check_redis() -> None:
    """Raise WorkerError unless Redis answers."""
    from redis.backoff import ConstantBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    from carpool_worker.settings import settings

    each_second = Retry(ConstantBackoff(1), REDIS_STARTS_WITHIN)
    try:
        with settings().redis(retry=each_second) as connection:
            connection.ping()
    except (RedisError, ValueError) as error:
        raise WorkerError(f"Redis can't be used (CARPOOL_REDIS_URL): {error}") from error


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
    except (OperationalError, ArgumentError, ModuleNotFoundError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise WorkerError(f"The database can't be used (CARPOOL_DATABASE_URL): {reason}") from error
