"""The URL of a Redis, as producers and the worker read it: what redis-py understands, and nothing else."""

from __future__ import annotations

from urllib.parse import urlsplit

import redis
from redis.exceptions import RedisError

SCHEMES = ("redis", "rediss", "unix")


def check_url(url: str) -> str:
    """Return the URL of a Redis as it is; raises ValueError, naming the rule, if no client could be made of it.

    Nothing is connected. An unknown option is refused here, as redis-py would only refuse it at the first command.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(SCHEMES)}, then ://")
    try:
        redis.ConnectionPool.from_url(url).make_connection()
    except TypeError as error:
        option = str(error).rpartition(" ")[2]
        raise ValueError(f"has an option that redis-py does not know: {option}") from None
    except RedisError as error:
        raise ValueError(f"has an option that can't be used: {error}") from None
    return url
