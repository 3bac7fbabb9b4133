"""POST /v1/messages/batches: the body is spooled and checked while it arrives, then stored in one transaction."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from hashlib import sha256

from carpool.envelopes import check_options
from carpool.exceptions import InvalidRequest
from carpool.quotas import ALARMS
from carpool_worker.batch_bodies.spool import MAX_BODY_BYTES
from carpool_worker.coordination.wakeups import ALARMS_KEPT
from carpool_worker.database import now
from carpool_worker.exceptions import KeyReused
from carpool_worker.gateway.batch_quotas import BatchRoom
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.errors import AWAY, GatewayError
from carpool_worker.gateway.forwarded import public_url
from carpool_worker.gateway.spools import in_thread, receive
from carpool_worker.gateway.wishes import is_marked_retry, read_idempotency_key, read_options
from carpool_worker.models import ClientBatch
from carpool_worker.pipeline.batching.client_batches import BatchTerms, Created, create
from carpool_worker.pipeline.batching.spooled_creates import SpooledCreate
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import SECOND

OWN_BETA = "message-batches-"
"""How the betas begin that say nothing but that batches are used: their requests share batches with all others."""

OF_CALLS_ALONE = (
    "X-Carpool-Metadata",
    "X-Carpool-Max-Wait",
    "X-Carpool-Deadline",
    "X-Carpool-Deadline-Policy",
)
"""What only a call of /v1/messages may say: a batch is due within 24 hours, and its results are told by `custom_id`."""

SEPARATOR = b"\0"

log = get_logger(__name__)


async def take(call: Call) -> ClientBatch:
    """Return the batch that a call creates, or has created before.

    Raises:
        InvalidRequest, GatewayError: a header or the body breaks a rule, or there is no room.
    """
    terms = _terms(call)
    size = call.request.content_length
    with (
        call.gateway.spools.reserving(MAX_BODY_BYTES if size is None else min(size, MAX_BODY_BYTES)),
        # Unlinked from the start: whatever becomes of this process, no body stays on disk.
        tempfile.TemporaryFile(buffering=0) as file,
    ):
        digest = sha256(_identity(terms))
        given = await receive(call, file, digest.update)
        created = await in_thread(_create, call, given, replace(terms, digest=digest.digest()))
    if created.is_new:
        await _wake_for(call, created)
    return created.batch


def _terms(call: Call) -> BatchTerms:
    """Return what a call says besides its body; raises InvalidRequest for what a batch can't have."""
    for name in OF_CALLS_ALONE:
        if name in call.request.headers:
            raise InvalidRequest(name, "is for calls of /v1/messages; a batch takes none")
    options = read_options(call)
    options["betas"] = [beta for beta in options.get("betas", ()) if not beta.startswith(OWN_BETA)]
    checked = check_options(call.key.client, options, allow_http=call.gateway.options.allow_http).terms
    return BatchTerms(
        client=call.key.client,
        digest=b"",
        received_at=now(),
        headers=checked.headers,
        is_retry=is_marked_retry(call),
        idempotency_key=read_idempotency_key(call),
        gateway_key=call.key.name,
        callback=checked.callback.decode() if checked.callback else None,
        origin=public_url(call),
        priority=checked.priority,
    )


def _identity(terms: BatchTerms) -> bytes:
    """Return what two creates have in common that are the same, but for their bodies."""
    lane = "\n".join(f"{name}={terms.headers[name]}" for name in sorted(terms.headers))
    return SEPARATOR.join([lane.encode(), (terms.callback or "").encode(), b""])


def _create(call: Call, given: SpooledCreate, terms: BatchTerms) -> Created:
    settings, created = call.gateway.settings, None
    engine, in_force = call.gateway.engine, (settings.limits, settings.budgets, settings.accounts)
    room = BatchRoom(call.gateway.quotas, settings.quotas, call.key, given)
    try:
        created = create(engine, given, terms, *in_force, room.reserve)
    except KeyReused:
        message = "Idempotency-Key: this key was used with another batch."
        raise GatewayError(422, message, should_retry=False) from None
    finally:
        room.settle(created)
    return created


async def _wake_for(call: Call, created: Created) -> None:
    """Have sealed batches submitted, and open ones sealed when they are due."""
    await wake(call, "aggregate", call.gateway.settings.flush_interval)
    if created.filled.sealed or created.batch.ended_at:
        await wake(call, "stage")


async def wake(call: Call, task: str, seconds: float = 0.0) -> None:
    """Have beat send a task in so many seconds; if Redis is away, its tick will do."""
    alarm = ("XADD", ALARMS, "MAXLEN", "~", ALARMS_KEPT, "*", "task", task, "ms", round(seconds * SECOND) + 1)
    try:
        await call.gateway.redis.execute([alarm])
    except AWAY as error:
        log.warning("alarm not set", task=task, error=type(error).__name__)
