"""Every Redis key and queue of the worker's own. Those that producers know too are in `carpool.contract`."""

from __future__ import annotations

QUARANTINE = "carpool:quarantine"
"""Stream: unreadable inbox entries, as they came, until an operator drops or retries them."""

REFUSED_MESSAGES = "carpool:refused-messages"
"""Hash: by client, how many of Celery's messages `carpool.enqueue` has refused."""

WAITING = "carpool:waiting"
"""Hash: by a request's id, who waits for its answer; a msgpack array of [client, reply_to, until], the last in
seconds since the epoch."""

WAITING_UNTIL = "carpool:waiting-until"
"""Sorted set: the ids in WAITING, by when the last of their waits is over."""

GROUP = "aggregators"
"""The inbox's consumer group."""

RESERVED = "carpool:reserved"
"""Hash: what is reserved of quotas for batches of clients that are being stored, by a name of each: until when, the
requests and their bytes, and for whom."""

POLLED = "carpool:polled"
"""Set, until it expires, while another poll would come too soon after the last one."""

LOCK = "carpool:lock:"
"""Prefix of the locks, each of which expires by itself."""

HEARTBEAT = "carpool:heartbeat"
"""Set by beat each second; its remaining time to live gives how long ago that was."""

RATE_LIMITED = "carpool:rate-limited"
"""Set, until it expires, while the API's rate limit allows no calls to the default account; others append a name."""

CALLS_LIMITED = "carpool:calls-limited"
"""Set, until it expires, while the API's rate limits allow the default account no calls of the Messages API; others
append a name, here and to the next."""

CALLS_DUE = "carpool:calls-due"
"""When the next call of the Messages API would be due if all came evenly, in milliseconds since the epoch."""

FLOWER_REFRESH = "carpool:flower-refresh"
"""Set when a Flower subscribes and needs the batches' rows; deleted when a worker begins to send them."""

GATEWAYS = "carpool:gateways"
"""Sorted set: the gateways, each process an id of its own, by when it was last alive (milliseconds since the epoch)."""

GATEWAY_STATUS = "carpool:gateway:status:"
"""Prefix, a gateway's id follows: what it does now and has done, JSON, until it expires."""

GATEWAY_CALLS = "carpool:gateway:calls:"
"""Prefix, a digest of a call and a colon follow. Sorted sets of the ids of requests that were made of calls with this
digest: those under way at a gateway (its id is appended), those given up unanswered (nothing), and those answered
("answered")."""

GATEWAY_HELD = "carpool:gateway:held:"
"""Prefix, a key's id follows. Hash: by gateway, how many calls with this key wait for their answer there."""

GATEWAY_RATE = "carpool:gateway:rate:"
"""Prefix, a key's id follows: when the requests that it made would be due if they came evenly."""

GATEWAY_KEYED = "carpool:gateway:keyed:"
"""Prefix, a request's id follows: the digest of the call with an idempotency key that made it."""

GATEWAY_ACCEPTED = "carpool:gateway:accepted:"
"""Prefix, a request's id follows: its client, until the request is surely in the tables."""

GATEWAY_ALIVE = "carpool:gateway:alive:"
"""Prefix of channels, a gateway's id follows. Nothing is published there; that somebody listens shows that it lives."""

UNACKED, UNACKED_INDEX, UNACKED_MUTEX = (f"carpool:unacked{part}" for part in ("", "-index", "-mutex"))
"""Where Celery keeps the messages that workers have taken and not acknowledged."""

EXCHANGE = "carpool"
"""What Celery's exchanges for remote control and events are named after, so that other apps hear nothing of ours."""

AGENTS = ("aggregate", "submit", "call", "poll", "collect", "deliver", "enqueue")
"""The agents with a queue of their own, so that each scales by itself."""


def queue(agent: str) -> str:
    """Return the name of an agent's queue; Celery keeps it as a Redis list of that name."""
    return f"carpool.{agent}"


QUEUES = tuple(map(queue, AGENTS))
