"""What crosses the wire between a producer and the worker: Redis keys, the inbox entry, the answer.

Both sides import this module, so a change here changes the protocol.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import msgspec
import uuid_utils

INBOX = "carpool:{0}:inbox"
"""The first shard (carpool/shards.py has the others): a stream. Each entry has one field: ENTRY_FIELD, a msgpack Entry;
CANCEL_FIELD, a msgpack Cancel; or, from producers of protocol version 1, OLD_ENTRY_FIELD, a msgpack array of Envelopes.
Braces are Redis Cluster's mark of what decides a key's node: a shard's stream and its counter are on one."""

QUEUED = "carpool:{0}:queued"
"""Integer. Requests in that shard, kept exact by APPEND_SCRIPT and the aggregator's acknowledgement."""

WAITS = "carpool:waits"
"""List. Each item is a msgpack Wait: a producer asks for the answers of some requests."""

WAITS_TTL = 120
"""Seconds that unread waits are kept; a producer that waits repeats them, so none is lost for good."""

REPLIES = "carpool:reply:"
"""Prefix of the lists that answers are pushed to."""

REPLY_TTL = 3600
"""Seconds that a reply list is kept when nobody reads it."""

REQUEST_ID = re.compile("[0-9a-f]{32}")
"""A request's id, which is its custom_id in a batch too."""

CLIENT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

ENTRY_FIELD, OLD_ENTRY_FIELD, CANCEL_FIELD = b"v2", b"v1", b"cancel"
MAX_CANCEL_IDS = 5_000
"""Ids in one Cancel: an entry of about 170 kB."""

MAX_PARAMS_BYTES = 32_000_000
"""The Messages API's own limit for one request (32 MB); a batch takes 256 MB in all."""

MAX_PRIORITY = 100
"""Priorities go from -100 to 100, by default 0; the highest goes first."""

MAX_WAIT = 30 * 86_400
"""Seconds: the longest `max_wait`, more than any submit window makes a request wait."""

BETA_HEADER = "anthropic-beta"
USER_PROFILE_HEADER = "anthropic-user-profile-id"
WORKSPACE_HEADER = "anthropic-workspace-id"

ABSENT = msgspec.Raw(b"null")
"""JSON's null: msgspec has no fields that are either Raw or None."""


class Envelope(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One request on its way to the worker. Entries of protocol version 1 are arrays of these."""

    id: str  # as REQUEST_ID
    client: str  # as CLIENT_NAME
    model: str
    params: bytes  # JSON, sent to Anthropic byte for byte
    headers: dict[str, str]  # per-batch headers; they choose the lane
    callback: bytes | None  # JSON, see callbacks.py; None: the answer is kept for wait()
    metadata: bytes | None  # JSON
    idempotency_key: str | None
    enqueued_at: int  # milliseconds since the epoch, by the producer's clock
    priority: int = 0
    submit_by: int | None = None  # milliseconds since the epoch: when it should be on its way to Anthropic
    trace: str | None = None  # W3C Trace Context's traceparent
    # Unknown to producers of protocol version 1:
    reply_to: str | None = None
    account: str | None = None
    gateway_key: str | None = None
    client_batch: str | None = None
    custom_id: str | None = None
    deadline: int | None = None
    tags: tuple[str, ...] = ()
    deadline_policy: str | None = None


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Up to 200 requests on their way to the worker, which have their params in one segment (see segments.py).

    They share what is given once. Of the lists at the end, each has one item for each request, or is None where all
    items would be None. Fields are only ever appended, each with a default: who does not know one skips it.
    """

    client: str  # as CLIENT_NAME
    model: str
    headers: dict[str, str]  # per-batch headers; they choose the lane
    callback: bytes | None  # JSON, see callbacks.py; None: the answers are kept for wait()
    priority: int
    ids: bytes  # 16 bytes each
    params: bytes  # a segment
    enqueued_at: list[int]  # milliseconds since the epoch, by the producer's clock
    reply_to: str | None = (
        None  # the list that answers are pushed to as soon as they are there; begins with REPLIES
    )
    account: str | None = None  # whose API key is to be used; None: the worker's settings decide
    gateway_key: str | None = None  # the name of the gateway's key that the requests came with
    client_batch: str | None = None  # the id of the batch that the client made at the gateway
    metadata: list[bytes | None] | None = None  # JSON
    idempotency_keys: list[str | None] | None = None
    submit_by: list[int | None] | None = None  # milliseconds since the epoch
    deadlines: list[int | None] | None = None  # milliseconds since the epoch: when the answer should be there
    traces: list[str | None] | None = None  # W3C Trace Context's traceparent
    custom_ids: list[str | None] | None = None  # the client's names for them in its batch
    tags: list[list[str]] | None = None
    deadline_policies: list[str | None] | None = None  # as in enqueue_options.py; None: the default


class Cancel(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A client cancels these of its requests or, if `ids` is None, all that it enqueued until `at`."""

    client: str
    ids: list[str] | None
    at: int  # milliseconds since the epoch, by the producer's clock, as enqueued_at


class Wait(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A producer asks for the answers to these requests, to be pushed to the list `reply_to`."""

    client: str
    reply_to: str
    ids: list[str]
    is_over: bool = False  # True: it no longer waits for them
    age: int | None = None  # milliseconds since the wait began; None: it takes no NotThere (not_there.py)


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Token counts of one answer, as the API reports them: `input_tokens` excludes cached tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of a delivery: what every callback gets. Times are RFC 3339 in UTC, dollars are decimal strings."""

    id: str
    client: str
    model: str
    state: str  # completed, discarded or canceled
    outcome: str  # Anthropic's word: succeeded, errored, canceled, expired
    message: msgspec.Raw = ABSENT  # the Message, byte for byte
    error: msgspec.Raw = ABSENT  # {"type", "message"}
    usage: Usage | None = None  # a canceled request has it if its answer had been made, which is paid for
    cost: str | None = None  # dollars billed; None if nothing was, or the model's price is unknown
    list_price: str | None = None  # dollars the same tokens cost outside a batch
    processing: str | msgspec.UnsetType = msgspec.UNSET  # "real_time"; absent: in a batch
    metadata: msgspec.Raw = ABSENT
    attempts: int = 1
    batch_id: str | None = None  # Anthropic's id, msgbatch_…
    enqueued_at: str
    finished_at: str


class PackedAnswers(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Answers to requests of one client and model, pushed to the list that their entries name as `reply_to`.

    Of the lists, each has one item for each answer, or is None where each has the default. In msgpack it is an array,
    so it does not begin as the JSON of an Answer does, which the same list may hold.
    """

    client: str
    model: str
    batch_id: str | None  # Anthropic's id, msgbatch_…
    finished_at: int  # milliseconds since the epoch
    ids: bytes  # 16 bytes each
    results: bytes  # a segment: the `result` of each line, as it came
    enqueued_at: list[int]  # milliseconds since the epoch
    states: list[str] | None = None  # default: completed
    outcomes: list[str] | None = None  # default: succeeded
    input_tokens: list[int | None] | None = None  # None: there is no usage
    output_tokens: list[int | None] | None = None  # here and below: default 0
    cache_write_tokens: list[int | None] | None = None
    cache_read_tokens: list[int | None] | None = None
    costs: list[int | None] | None = None  # picodollars; default: unknown, or none
    list_prices: list[int | None] | None = None
    attempts: list[int] | None = None  # default: 1
    metadata: list[bytes | None] | None = None  # JSON
    processing: str | None = None  # of all: "real_time"; default: in a batch


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook, as Standard Webhooks 1.0.0 recommends."""

    type: str  # request.completed, request.discarded or request.canceled; batch.ended
    timestamp: str
    data: msgspec.Raw  # an Answer


to_json = msgspec.json.Encoder().encode
"""Return a value as JSON; these bytes are what is stored and sent."""

encode_entry = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(Entry).decode
encode_old_entry = msgspec.msgpack.Encoder().encode
decode_old_entry = msgspec.msgpack.Decoder(list[Envelope]).decode
encode_cancel = msgspec.msgpack.Encoder().encode
decode_cancel = msgspec.msgpack.Decoder(Cancel).decode
encode_answers = msgspec.msgpack.Encoder().encode
decode_answers = msgspec.msgpack.Decoder(PackedAnswers).decode
encode_wait = msgspec.msgpack.Encoder().encode
decode_wait = msgspec.msgpack.Decoder(Wait).decode


def mint_id(client: str, idempotency_key: str | None = None) -> str:
    """Return a new id, 32 hex digits: a UUIDv7, or with a key the id that the client and the key determine.

    That is a UUIDv8 (RFC 9562, section 5.8) over SHA-256, so the same key is the same row wherever and whenever it is
    enqueued, with nothing to look up.
    """
    if idempotency_key is None:
        return uuid_utils.uuid7().hex
    digest = hashlib.sha256(f"{client}\0{idempotency_key}".encode()).hexdigest()
    return f"{digest[:12]}8{digest[13:16]}a{digest[17:32]}"


def is_keyed(request_id: str) -> bool:
    """Return whether an id was made from an idempotency key."""
    return request_id[12] == "8"


def batch_headers(
    betas: Sequence[str] = (), user_profile_id: str | None = None, workspace_id: str | None = None
) -> dict[str, str]:
    """Return the per-batch headers in canonical form."""
    headers = {
        BETA_HEADER: ",".join(sorted(set(betas))),
        USER_PROFILE_HEADER: user_profile_id,
        WORKSPACE_HEADER: workspace_id,
    }
    return {name: value for name, value in headers.items() if value}


def lane_of(model: str, headers: Mapping[str, str], account: str | None = None) -> str:
    """Return the lane of a request; requests of one lane may share a batch. `account`: None is the default one."""
    if not headers and account is None:
        return model
    parts = [f"{name}={headers[name]}" for name in sorted(headers)]
    return " ".join([model, *parts, *([f"account={account}"] if account is not None else [])])
