"""This process's connections to Redis and the API, opened at first use; those to the database are in database.py."""

from __future__ import annotations

from functools import cache

import redis
from redis.retry import Retry

from carpool.options import NO_RETRY
from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import Credentials, missing, read_credentials
from carpool_worker.claude.messages import KINDS, Messages
from carpool_worker.claude.rate_limit import RateLimit
from carpool_worker.claude.token_bucket import TokenBucket
from carpool_worker.coordination.backlog import Queues, RedisQueues, queues_of
from carpool_worker.coordination.keys import CALLS_DUE, CALLS_LIMITED, RATE_LIMITED
from carpool_worker.policies.real_time import BURST_SECONDS
from carpool_worker.settings import settings


@cache
def server() -> redis.Redis:
    """Return this process's Redis client. It repeats nothing by itself: of a read that is repeated, as its reply was
    lost, the inbox would never see the entries that the first one took."""
    return settings().redis(retry=Retry(*NO_RETRY))


@cache
def queues() -> Queues:
    """Return the queues of Celery's broker, over a connection of this process's own."""
    return (
        RedisQueues(server())
        if not settings().broker_url
        else queues_of(settings().broker, settings().key_prefix)
    )


def claudes() -> list[Claude]:
    """Return this process's API clients: one for each key of each account, those in use before retired ones.

    Keys are read each time, so that one that was changed in its file is used at once.
    """
    return [_claude(one) for one in read_credentials(settings().accounts)]


def claude(account: str | None = None) -> Claude:
    """Return the client that makes an account's batches; None: the default one."""
    for one in read_credentials(settings().accounts):
        if one.account == account and not one.is_retired:
            return _claude(one)
    return _claude(missing(account))


def messages(account: str | None = None) -> Messages:
    """Return the client that makes an account's calls in real time; None: the default one."""
    for one in read_credentials(settings().accounts):
        if one.account == account and not one.is_retired:
            return _messages(one)
    return _messages(missing(account))


def call_bucket(account: str | None = None) -> TokenBucket:
    """Return how many calls an account may still make this minute."""
    per_minute = settings().real_time_policy.per_minute
    return TokenBucket(server(), _of_account(CALLS_DUE, account), per_minute, BURST_SECONDS)


@cache
def _messages(credentials: Credentials) -> Messages:
    limit = RateLimit(server(), _of_account(CALLS_LIMITED, credentials.account), KINDS)
    return Messages(limit, credentials, settings().real_time_policy.timeout)


def _of_account(key: str, account: str | None) -> str:
    return key if account is None else f"{key}:{account}"


@cache
def _claude(credentials: Credentials) -> Claude:
    return Claude(RateLimit(server(), _of_account(RATE_LIMITED, credentials.account)), credentials)
