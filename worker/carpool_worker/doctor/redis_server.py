"""Examines Redis: what was accepted must survive a crash, and nothing may be evicted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from carpool.durability import PROBE
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.formatting import size
from carpool_worker.settings import Settings

CHECK = "redis"
OLDEST = (6, 2)
"""The version that brought XAUTOCLAIM, which takes over a dead worker's entries."""

FULL = 0.9
"""The share of its memory in use at which producers are refused; see carpool.contract."""

NEARLY_FULL = 0.75

ANSWER_SECONDS = 5.0
"""How long Redis may take to answer."""

INFO = ("server", "memory", "persistence", "replication", "cluster")


class Facts(NamedTuple):
    """What a server reports about itself."""

    info: dict[str, Any]
    fsync: str | None  # None: this user may not ask
    sync_refusal: str | None  # why WAITAOF is refused; None: it is not
    quarantined: int


def opened(settings: Settings) -> redis.Redis | Finding:
    """Return a server that answers, or what is wrong."""
    try:
        server = settings.redis(socket_timeout=ANSWER_SECONDS, retry=Retry(NoBackoff(), 0))
        server.info("server")
    except (RedisError, ValueError) as error:
        return wrong(CHECK, f"can't be used: {error}", "start it, or correct CARPOOL_REDIS_URL")
    return server


def examine(server: redis.Redis) -> Iterator[Finding]:
    """Ask a server for its settings, and judge them."""
    info = {key: value for section in INFO for key, value in server.info(section).items()}
    yield from judge(Facts(info, _fsync(server), _sync_refusal(server), int(server.xlen(QUARANTINE))))


def judge(facts: Facts) -> Iterator[Finding]:
    """Judge a server."""
    yield _version(facts)
    yield from _role(facts)
    yield from _persistence(facts)
    yield from _memory(facts)
    if facts.quarantined:
        what = f"inbox entries that could not be read are in quarantine: {facts.quarantined:,}"
        yield warning(CHECK, what, "see carpool quarantine; drop or retry each")


def _version(facts: Facts) -> Finding:
    name = str(facts.info.get("server_name", "redis"))
    shown = f"{name.capitalize()} {facts.info.get(f'{name}_version', '?')}"
    if _numbers(str(facts.info["redis_version"])) < OLDEST:
        return wrong(CHECK, f"{shown} is too old", "Redis 6.2 is the oldest that works; use 7.2, or Valkey")
    return ok(CHECK, shown)


def _role(facts: Facts) -> Iterator[Finding]:
    if facts.info.get("role") != "master":
        yield wrong(CHECK, "it is a replica, and so read-only", "name the primary in CARPOOL_REDIS_URL")
    if facts.info.get("cluster_enabled"):
        yield wrong(CHECK, "it is a cluster: scripts can't reach all keys", "use one server, with replicas")


def _persistence(facts: Facts) -> Iterator[Finding]:
    if not facts.info.get("aof_enabled"):
        what = "appendonly is no: a restart loses requests that were accepted"
        yield wrong(CHECK, what, "set appendonly yes, in its file too (config/redis.conf)")
        return
    if facts.info.get("aof_last_write_status") != "ok":
        yield wrong(CHECK, "its last write to the disk failed", "check its log and its disk")
    if facts.fsync == "no":
        what = "appendfsync is no: a power cut loses up to half a minute of requests"
        yield warning(CHECK, what, "set appendfsync everysec")
    elif facts.fsync is None:
        yield warning(CHECK, "it does not say what appendfsync is", "make sure that it is everysec or always")
    else:
        yield ok(CHECK, f"it persists: appendonly yes, appendfsync {facts.fsync}")
    if facts.sync_refusal:
        what = f"durable producers get an error: {facts.sync_refusal}"
        yield warning(CHECK, what, "WAITAOF needs Redis 7.2 or Valkey")


def _memory(facts: Facts) -> Iterator[Finding]:
    if (policy := facts.info.get("maxmemory_policy")) != "noeviction":
        what = f"maxmemory-policy is {policy}: when it is full it evicts requests"
        yield wrong(CHECK, what, "set maxmemory-policy noeviction, in its file too")
    most, used = int(facts.info.get("maxmemory", 0)), int(facts.info.get("used_memory", 0))
    if not most:
        what = f"maxmemory is not set ({size(used)} used): the machine may run out of memory and kill it"
        yield warning(CHECK, what, "set maxmemory below the machine's memory, such as 2gb")
        return
    shown = f"{size(used)} of {size(most)} of its memory used"
    more = "check that workers keep up (carpool batches), or raise maxmemory"
    if used > FULL * most:
        yield wrong(CHECK, f"{shown}: producers are refused", more)
    elif used > NEARLY_FULL * most:
        yield warning(CHECK, f"{shown}: above nine tenths, producers are refused", more)
    else:
        yield ok(CHECK, shown)


def _fsync(server: redis.Redis) -> str | None:
    try:
        return dict(server.config_get("appendfsync")).get("appendfsync")
    except ResponseError:  # managed servers have no CONFIG, and a user may lack the right
        return None


def _sync_refusal(server: redis.Redis) -> str | None:
    try:
        server.execute_command(*PROBE)  # type: ignore[no-untyped-call]
    except ResponseError as error:
        return str(error)
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
