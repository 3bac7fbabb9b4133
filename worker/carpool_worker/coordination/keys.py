"""Every Redis key and queue of the worker's own. Those that producers know too are in `carpool.contract`."""

from __future__ import annotations

QUARANTINE = "carpool:quarantine"
"""Stream: inbox entries that could not be read, as they came, until an operator drops or retries them."""

WAITING = "carpool:waiting"
"""Hash: the waiters of a request, by its id; a msgpack array of [client, reply_to]."""

LOCK = "carpool:lock:"
"""Prefix of the locks that keep two processes from doing the same work at once; each expires by itself."""

HEARTBEAT = "carpool:heartbeat"
"""Set with each of beat's ticks; its remaining time to live gives the age of the last one."""

RATE_LIMITED = "carpool:rate-limited"
"""Set, and expiring, while the API's limit of calls a minute allows none."""

FLOWER_REFRESH = "carpool:flower-refresh"
"""Set from when a monitor needs the batches' rows until a worker begins to send them."""

AGENTS = ("aggregate", "submit", "poll", "collect", "deliver", "enqueue")
"""The agents with a queue of their own, so that each scales by itself."""


def queue(agent: str) -> str:
    """Return the name of an agent's queue; Celery keeps it as a Redis list of that name."""
    return f"carpool.{agent}"


QUEUES = tuple(map(queue, AGENTS))
