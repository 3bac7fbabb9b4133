"""This process's connections to Redis and the API, opened at first use; those to the database are in database.py."""

from __future__ import annotations

from functools import cache

import redis

from carpool_worker.claude.client import Claude
from carpool_worker.claude.rate_limit import RateLimit
from carpool_worker.coordination.keys import RATE_LIMITED
from carpool_worker.settings import settings


@cache
def server() -> redis.Redis:
    """Return this process's Redis client."""
    return redis.Redis.from_url(settings().redis_url)


@cache
def claude() -> Claude:
    """Return this process's API client."""
    return Claude(RateLimit(server(), RATE_LIMITED))
