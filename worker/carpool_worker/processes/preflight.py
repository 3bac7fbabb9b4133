"""What a command checks before it starts: what is wrong is said in one line, before Celery says it in fifty.

Each check imports what it needs: the clock wants no database, and the simulator none of it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from carpool_worker.exceptions import WorkerError

REDIS_PATIENCE = 10
"""Seconds that a Redis which is still starting is waited for."""


def check_redis() -> None:
    """Raise WorkerError unless Redis answers."""
    from redis import Redis
    from redis.backoff import ConstantBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    from carpool_worker.settings import settings

    patient = Retry(ConstantBackoff(1), REDIS_PATIENCE)
    try:
        with Redis.from_url(settings().redis_url, retry=patient) as connection:
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
    """Bring the tables up to this version, or raise WorkerError where the database doesn't answer."""
    from carpool_worker.migrations import upgrade
    from carpool_worker.settings import settings

    with _one_line():
        upgrade(settings().database_url)


def check_port(host: str, port: int) -> None:
    """Raise WorkerError unless `port` of `host` can be listened on; port 0 always can."""
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
