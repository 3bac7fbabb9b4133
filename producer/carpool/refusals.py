"""What Redis' replies to appends mean."""

from __future__ import annotations

from redis.exceptions import OutOfMemoryError

from carpool.append_script import OUT_OF_MEMORY
from carpool.exceptions import CarpoolError, QueueFull
from carpool.options import Options
from carpool.quotas import is_unknown, reached


class QuotasUnknown(CarpoolError):
    """Redis does not know yet how many requests wait, so a quota can't be kept: the tables must be counted first."""


def is_accepted(reply: object) -> bool:
    """Return whether Redis has appended the entry, by its reply to the command."""
    return isinstance(reply, int) and reply >= 0


def refusal(settings: Options, reply: object) -> CarpoolError:
    """Return the error to raise for a reply that tells that nothing was appended."""
    if isinstance(reply, OutOfMemoryError) or reply == OUT_OF_MEMORY:
        return QueueFull("Redis is out of memory, so the inbox takes no more requests for now")
    if isinstance(reply, Exception):
        return settings.unavailable(reply)
    if quota := reached(reply):
        return QueueFull(str(quota), quota=quota)
    if is_unknown(reply):
        return QuotasUnknown()
    share = f", {settings.shard_limit:,} in each of its streams" if settings.inbox_shards > 1 else ""
    return QueueFull(f"the inbox has reached its limit of {settings.max_queued:,} requests{share}")
