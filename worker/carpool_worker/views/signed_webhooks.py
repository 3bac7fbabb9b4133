"""An answer as a webhook brings it: the body, and the headers with its signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from carpool.contract import to_json
from carpool.webhooks import delivery_body, sign
from carpool_worker.database import now
from carpool_worker.exceptions import WorkerError
from carpool_worker.store import webhook_secrets
from carpool_worker.store.requests.answers import load_answers
from carpool_worker.store.webhook_secrets import ClientSecrets


class NoAnswer(WorkerError):
    """The request has no answer yet, or it is no longer kept."""


class NoSecret(WorkerError):
    """There is no secret to sign with: webhooks are never sent unsigned; set CARPOOL_WEBHOOK_SECRET."""


@dataclass(frozen=True)
class SignedWebhook:
    """What is posted: Standard Webhooks 1.0.0. It contains what Claude said."""

    headers: Mapping[str, str]
    body: bytes


def signed_webhook(connection: sa.Connection, request_id: str, general: Sequence[str]) -> SignedWebhook:
    """Return the webhook that would bring a request's answer now; `general` are the secrets of the settings.

    Raises:
        NoAnswer, NoSecret.
    """
    answer = load_answers(connection, [request_id]).get(request_id)
    if answer is None:
        raise NoAnswer
    own = ClientSecrets(webhook_secrets.load(connection, now()), general)
    if not (secrets := own.of(answer.client)):
        raise NoSecret
    body = delivery_body(answer.state, answer.finished_at, to_json(answer))
    return SignedWebhook(sign(body, answer.id, secrets, datetime.now(UTC)), body)
