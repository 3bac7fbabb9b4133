"""Webhooks as Standard Webhooks 1.0.0 specifies them: Carpool signs, and a receiver verifies."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

import msgspec
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError, WebhookVerificationError

from carpool.contract import Delivery, to_json
from carpool.exceptions import InvalidAnswer, InvalidSetting, InvalidSignature
from carpool.results import Result

__all__ = [
    "FinishedBatch",
    "InvalidAnswer",
    "InvalidSetting",
    "InvalidSignature",
    "RequestCounts",
    "delivery_body",
    "sign",
    "verify",
    "verify_any",
    "verify_batch",
]

BATCH_ENDED = "batch.ended"
"""The type of the delivery that tells that a client's batch at the gateway has ended."""


class RequestCounts(msgspec.Struct, frozen=True):
    """How the requests of a batch ended."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class FinishedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch of the client's that has ended, as `client.messages.batches.retrieve` has it. Times are aware."""

    id: str  # msgbatch_…
    request_counts: RequestCounts
    created_at: datetime
    expires_at: datetime
    ended_at: datetime
    cancel_initiated_at: datetime | None = None
    results_url: str | None = None
    cost: Decimal  # dollars billed
    list_price: Decimal  # dollars that the same tokens cost outside a batch


_decode_batch = msgspec.json.Decoder(FinishedBatch).decode


def verify(body: bytes, headers: Mapping[str, str], secret: str | Sequence[str]) -> Result:
    """Return the result in a delivery, after checking its signature.

    `body` is the HTTP request's body, byte for byte; the names in `headers` may be in any case; `secret` is
    `whsec_…`, or a list of several while one is being rotated.

    Raises:
        InvalidSignature: no secret matches, or the timestamp is more than 5 minutes off.
        InvalidAnswer: the signature is good, but the body is not the delivery of a request's answer.
        InvalidSetting: a secret is malformed, or none is given.
    """
    delivery = _verified(body, headers, secret)
    if delivery.type == BATCH_ENDED:
        raise InvalidAnswer(f"this is {BATCH_ENDED}, which verify_batch and verify_any read")
    return Result.from_json(bytes(delivery.data))


def verify_batch(body: bytes, headers: Mapping[str, str], secret: str | Sequence[str]) -> FinishedBatch:
    """Return the batch in a delivery of `batch.ended`, after checking its signature.

    Takes and raises what `verify` does; InvalidAnswer if the delivery is about something else.
    """
    delivery = _verified(body, headers, secret)
    if delivery.type != BATCH_ENDED:
        raise InvalidAnswer(f"this is {delivery.type}, not {BATCH_ENDED}")
    return _batch(delivery)


def verify_any(
    body: bytes, headers: Mapping[str, str], secret: str | Sequence[str]
) -> Result | FinishedBatch:
    """Return what is in a delivery, for a receiver that gets answers and ends of batches at one URL.

    Takes and raises what `verify` does.
    """
    delivery = _verified(body, headers, secret)
    return _batch(delivery) if delivery.type == BATCH_ENDED else Result.from_json(bytes(delivery.data))


def _batch(delivery: Delivery) -> FinishedBatch:
    try:
        return _decode_batch(bytes(delivery.data))
    except msgspec.MsgspecError as error:
        raise InvalidAnswer(f"not a batch of Carpool: {error}") from None


def _verified(body: bytes, headers: Mapping[str, str], secret: str | Sequence[str]) -> Delivery:
    received = {str(name): value for name, value in headers.items()}
    reasons = [_reason_to_refuse(body, received, signer) for signer in _signers(secret)]
    if None not in reasons:
        raise InvalidSignature(reasons[0])
    try:
        return msgspec.json.decode(body, type=Delivery)
    except msgspec.MsgspecError as error:
        raise InvalidAnswer(f"not a delivery of Carpool: {error}") from None


def sign(body: bytes, webhook_id: str, secret: str | Sequence[str], at: datetime) -> dict[str, str]:
    """Return the headers of a delivery, with a signature by each secret; `at` is aware, in UTC.

    Raises:
        InvalidSetting: a secret is malformed, or none is given.
    """
    keys = [_key(secret)] if isinstance(secret, str) else [_key(one) for one in secret]
    if not keys:
        raise InvalidSetting("secret", "must be given")
    timestamp = str(int(at.timestamp()))
    signed = b"%b.%b.%b" % (webhook_id.encode(), timestamp.encode(), body)
    # By hand, as the library takes twice as long as the digest: it works on texts, and copies the body three times.
    digests = [b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys]
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{digest}" for digest in digests),
    }


def delivery_body(state: str, finished_at: str, answer: bytes, kind: str = "request") -> bytes:
    """Return the body of a delivery: an Answer as JSON, of a request in this final state since `finished_at`.

    For a `kind` of "batch", it is a batch that a client made at the gateway, as the API words it, and it has ended.
    """
    return to_json(Delivery(type=f"{kind}.{state}", timestamp=finished_at, data=msgspec.Raw(answer)))


def _signers(secret: str | Sequence[str]) -> list[Webhook]:
    secrets = [secret] if isinstance(secret, str) else secret
    if not secrets:
        raise InvalidSetting("secret", "must be given")
    return [_signer(one) for one in secrets]


@lru_cache(maxsize=1024)  # clients may have secrets of their own
def _signer(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except (EmptyWebhookSecretError, Base64Error, ValueError):
        raise InvalidSetting("secret", "must be whsec_ and base64") from None


@lru_cache(maxsize=1024)  # clients may have secrets of their own
def _key(secret: str) -> bytes:
    _signer(secret)  # raises what is to be raised
    return b64decode(secret.removeprefix("whsec_") + "==")  # it may be unpadded: what is too much is skipped


def _reason_to_refuse(body: bytes, headers: dict[str, str], signer: Webhook) -> str | None:
    try:
        signer.verify(body, headers, json_parse=False)
    except WebhookVerificationError as error:
        return str(error)
    # What the library raises for forged headers: bad base64, no comma, no text.
    except (ValueError, TypeError, AttributeError) as error:
        return f"Malformed headers or body: {error}"
    return None
