"""Claims of idempotency keys: with which params each was used, so that one that comes with others is refused.

A claim is made in the step that appends the request, so two producers can't both use a key first. Redis keeps it for a
day at least, unless MOST_CLAIMS are made meanwhile; after that, the tables know, and what is in conflict goes to the
quarantine instead of being refused. This module is a part of the contract in `contract`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.entries import CheckedRequest

CLAIMS, OLDER_CLAIMS = "carpool:keyed", "carpool:keyed:before"
"""Hashes: by the id of a request with an idempotency key, 16 bytes, the digest of its params. When the first is a day
old, or has MOST_CLAIMS, it becomes the second, and a new one is begun."""

CONFLICT = -5
"""What the script replies first if keys were used with other params; the places of these claims follow, from 0."""

ID_BYTES, DIGEST_BYTES = 16, 8

DAY = 86_400
MOST_CLAIMS = 200_000
"""Some 13 MB; the two hashes have twice as many at most."""


def claims_of(requests: Iterable[CheckedRequest]) -> bytes:
    """Return the claims of those requests that have an idempotency key, for the script."""
    return b"".join([claim_of(one.id, one.params) for one in requests if one.idempotency_key is not None])


def claim_of(request_id: bytes, params: bytes) -> bytes:
    """Return the claim of one request. With the id in the digest, equal params of two requests don't show in Redis."""
    digest = hashlib.blake2b(params, digest_size=DIGEST_BYTES, key=request_id)
    return request_id + digest.digest()


def conflicts(reply: object) -> list[int]:
    """Return which claims a script's reply says are in conflict, by their places; empty if it says nothing of them."""
    if not isinstance(reply, list | tuple) or reply[0] != CONFLICT:
        return []
    return [int(place) for place in reply[1:]]


CLAIM_FUNCTIONS = f"""
local function claims_of(recent, older, packed)
  local ids, claims, conflicts, own = {{}}, {{}}, {{{CONFLICT}}}, {{}}
  for at = 1, #packed, {ID_BYTES + DIGEST_BYTES} do
    ids[#ids + 1] = string.sub(packed, at, at + {ID_BYTES - 1})
  end
  local is_known, was_known = redis.call('HMGET', recent, unpack(ids)), redis.call('HMGET', older, unpack(ids))
  for i, id in ipairs(ids) do
    local digest = string.sub(packed, i * {ID_BYTES + DIGEST_BYTES} - {DIGEST_BYTES - 1}, i * {ID_BYTES + DIGEST_BYTES})
    local known = own[id] or is_known[i] or was_known[i]
    if known and known ~= digest then
      conflicts[#conflicts + 1] = i - 1
    else
      own[id] = digest
      claims[#claims + 1], claims[#claims + 2] = id, digest
    end
  end
  return claims, conflicts[2] and conflicts
end

local function claim(recent, older, claims)
  local left = redis.call('TTL', recent)
  if left >= 0 and (left < {DAY} or redis.call('HLEN', recent) >= {MOST_CLAIMS}) then
    redis.call('UNLINK', older)
    redis.call('RENAME', recent, older)
    left = -2
  end
  redis.call('HSET', recent, unpack(claims))
  if left < 0 then redis.call('EXPIRE', recent, {2 * DAY}) end
end
"""
"""Lua: the claims of an entry, or which of them are in conflict, and how they are kept. A claim lasts while its hash
does, two days from that one's beginning, and was made in the first of them."""
