"""For services that receive webhooks: is this really an answer from Carpool?"""

from __future__ import annotations

from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence

import msgspec
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError, WebhookVerificationError

from carpool.contract import Delivery
from carpool.exceptions import InvalidAnswer, InvalidSetting, InvalidSignature
from carpool.results import Result


def verify(body: bytes, headers: Mapping[str, str], secret: str | Sequence[str]) -> Result:
    """Return the result in a delivery, once its signature is known to be good (Standard Webhooks 1.0.0).

    `body` is the request's, byte for byte; `headers` may be in any case; `secret` is `whsec_…`, or several
    while one is rotated. Raises InvalidSignature, also for a timestamp more than 5 minutes off;
    InvalidAnswer for a signed body of another shape; InvalidSetting for a malformed secret.
    """
    received = {str(name): value for name, value in headers.items()}
    secrets = [secret] if isinstance(secret, str) else secret
    if not secrets:
        raise InvalidSetting("secret", "must be given")
    reasons = [_reason_to_refuse(body, received, _signer(one)) for one in secrets]
    if None not in reasons:
        raise InvalidSignature(reasons[0])
    try:
        delivery = msgspec.json.decode(body, type=Delivery)
    except msgspec.MsgspecError as error:
        raise InvalidAnswer(f"not a delivery of Carpool: {error}") from None
    return Result.from_json(bytes(delivery.data))


def _signer(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except (EmptyWebhookSecretError, Base64Error, ValueError):
        raise InvalidSetting("secret", "must be whsec_ and base64") from None


def _reason_to_refuse(body: bytes, headers: dict[str, str], signer: Webhook) -> str | None:
    try:
        signer.verify(body, headers, json_parse=False)
    except WebhookVerificationError as error:
        return str(error)
    # What the library lets through from headers that were made up: bad base64, no comma, no text.
    except (ValueError, TypeError, AttributeError) as error:
        return f"Malformed headers or body: {error}"
    return None
