"""What a service may say about a request besides its params: the keywords of an enqueue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

import msgspec

from carpool.callbacks import Callback

Params = Mapping[str, Any]

DeadlinePolicy = Literal["call", "batch", "pay_again"]


class EnqueueOptions(TypedDict, total=False):
    """The keywords of an enqueue; those of an `enqueue_many` are the defaults of all its requests."""

    callback: Callback | None
    """Where the answer goes: a Webhook, a Task, or None, which keeps it for `wait`."""
    metadata: Any
    """Any JSON value of at most 16,384 bytes; it comes back with the answer."""
    tags: Sequence[str]
    """Up to 10 short texts by which people find the request: `carpool requests --tag`. Each is 1 to 64 printable
    characters without spaces. They are not in the answer, and may be seen by whoever operates Carpool."""
    betas: Sequence[str]
    """Values of the `anthropic-beta` header. Only requests with the same headers share a batch."""
    user_profile_id: str | None
    """The `anthropic-user-profile-id` header: on whose behalf the requests are made."""
    workspace_id: str | None
    """The `anthropic-workspace-id` header, for API keys that can act on several workspaces."""
    priority: int
    """From -100 to 100, by default 0. While the account's queue at Anthropic is full, of a client's batches those with
    the highest priority go first; low ones may wait for as long as its higher ones keep coming. A batch has the
    highest priority of its requests. It overtakes no other client's."""
    max_wait: float | None
    """Seconds, at most 30 days: this long after the enqueue at the latest, the request is sent, if Anthropic accepts it
    then. Its batch is sealed early, however few requests share it, and ignores `submit_windows`. It does not
    override a paused lane, a full queue at Anthropic, a back-off or a budget, and never makes a batch wait longer."""
    deadline: float | datetime | None
    """By when the answer should be there: seconds from the enqueue, at most 30 days, or a time with its time zone.
    Carpool has learned how long batches take. While there is time, the request is pooled as any other; its batch is
    sent early, whatever `flush_interval` and `submit_windows` say, when only a batch sent now is likely to end in time.
    See `deadline_policy` for what happens when none is. It is no limit: a late answer is delivered, too."""
    deadline_policy: DeadlinePolicy
    """What a deadline may cost. "call", the default: as long as Anthropic does not have the request, it may be taken
    out of its batch and called at once, at the full price, if no batch is likely to end in time and the operator allows
    real-time calls. "batch": it is never called, so it costs half and may be late. "pay_again": it is called even if
    Anthropic has it in a batch that is about to be late. Then both are paid for, and the first answer is delivered,
    once."""
    reply: bool
    """Whether the answer is pushed to this producer as soon as it is there, so that its `wait` and `as_completed` need
    not ask for it: sooner, and at a tenth of the cost. Each other process can wait too, and asks. Redis keeps
    100,000 unread answers, for an hour; the others are asked for. For what nobody waits for, leave it out."""
    trace: str | None
    """A W3C traceparent that is passed on to the callback: as a header of a webhook, or of a task's message. By default
    it is that of OpenTelemetry's current span, if the service uses OpenTelemetry."""


KNOWN_OPTIONS = EnqueueOptions.__optional_keys__


class Request(msgspec.Struct, frozen=True):
    """One request of an `enqueue_many`, with options of its own; None stands for the call's default."""

    params: Params
    callback: Callback | None = None
    metadata: Any = None
    idempotency_key: str | None = None
    betas: Sequence[str] | None = None
    priority: int | None = None
    max_wait: float | None = None
    tags: Sequence[str] | None = None
    deadline: float | datetime | None = None
    deadline_policy: DeadlinePolicy | None = None
