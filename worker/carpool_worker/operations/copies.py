"""Signed copies of deliveries, for a developer who wants to see them at an address of this machine."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import msgspec
import sqlalchemy as sa

from carpool.contract import Envelope, to_json
from carpool.testing_answers import canceled, failed, succeeded
from carpool.webhooks import delivery_body, sign
from carpool_worker.database import now, read
from carpool_worker.exceptions import WorkerError
from carpool_worker.pipeline.delivery.channels import Outgoing
from carpool_worker.pipeline.delivery.letters import outgoing
from carpool_worker.store import webhook_secrets
from carpool_worker.store.deliveries import made
from carpool_worker.store.deliveries.outcomes import Claimed
from carpool_worker.store.requests import sendable
from carpool_worker.store.requests.segments import first_id
from carpool_worker.store.webhook_secrets import ClientSecrets
from carpool_worker.units import SECOND, Milliseconds

OVERLAP = Milliseconds(60_000)
"""Milliseconds: what was stored that long ago is looked for again, as it may have been committed late."""

MOST_BYTES = 32_000_000
"""Of answers in memory."""

ANSWER_SECONDS = 20.0
"""How long a receiver may take, as in the settings' default."""


@dataclass(frozen=True)
class Forwarded:
    """What became of a copy: the status of the receiver's answer, or why there is none."""

    type: str
    id: str
    status: int | None
    error: str | None
    milliseconds: int

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and 200 <= self.status < 300


class Copies:
    """The deliveries that are made from now on."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: set[int] = {one.answer_id for one in self._new()}

    def take(self) -> Iterator[Outgoing]:
        """Yield what has come since the last look, once."""
        rows = self._new()
        while rows:
            with read(self._engine) as connection:
                loaded = sendable.load(connection, rows, MOST_BYTES)
            for row in [one for one in rows if one[:2] in loaded]:
                self._known.add(row.answer_id)
                letters = (outgoing(content, row) for content in loaded[row[:2]])
                yield from (letter for letter in letters if letter is not None)
            rows = [one for one in rows if one[:2] not in loaded]

    def _new(self) -> list[Claimed]:
        with read(self._engine) as connection:
            return made.since(connection, first_id(now() - OVERLAP), getattr(self, "_known", ()))


def secrets(engine: sa.Engine, general: Sequence[str]) -> ClientSecrets:
    """Return with what each client's webhooks are signed."""
    with read(engine) as connection:
        return ClientSecrets(webhook_secrets.load(connection, now()), general)


def forward(letter: Outgoing, url: str, signed_with: Sequence[str]) -> Forwarded:
    """Post a copy of a delivery, signed as webhooks are; redirects are not followed. It raises nothing.

    Raises:
        WorkerError: there is no secret to sign it with.
    """
    if not signed_with:
        raise WorkerError("Webhooks are never sent unsigned: set CARPOOL_WEBHOOK_SECRET.")
    body = delivery_body(letter.state, letter.finished_at, letter.answer, letter.kind)
    headers = sign(body, letter.delivery_id, signed_with, datetime.now(UTC))
    start = monotonic()
    status, error = _post(url, body, headers)
    milliseconds = round((monotonic() - start) * SECOND)
    return Forwarded(f"{letter.kind}.{letter.state}", letter.delivery_id, status, error, milliseconds)


def sample(event: str, client: str, metadata: Any) -> Outgoing:
    """Return a delivery of this type that nobody has asked for."""
    if event == "batch.ended":
        return _ended_batch()
    state = event.partition(".")[2]
    envelope = Envelope(
        id="00000000000070008000000000000000",
        client=client,
        model="claude-haiku-4-5",
        params=b"{}",
        headers={},
        callback=None,
        metadata=to_json(metadata),
        idempotency_key=None,
        enqueued_at=now(),
    )
    if state == "completed":
        answer = succeeded(envelope, "[sample] Hello!", None, "0.000015")
    elif state == "canceled":
        answer = canceled(envelope)
    else:
        answer = failed(envelope, "invalid_request_error", "[sample] messages: Field required", "errored")
    return Outgoing(answer.id, state, "", "", answer.finished_at, to_json(answer), client=client)


def _ended_batch() -> Outgoing:
    moment = datetime.now(UTC).isoformat(timespec="microseconds")
    batch: Mapping[str, Any] = {
        "id": "msgbatch_0100000000000000000000000",
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": moment,
        "expires_at": moment,
        "ended_at": moment,
        "cancel_initiated_at": None,
        "archived_at": None,
        "results_url": None,
        "cost": "0.000015",
        "list_price": "0.00003",
    }
    body = msgspec.json.encode(batch)
    return Outgoing(str(batch["id"]), "ended", "", "", moment.replace("+00:00", "Z"), body, kind="batch")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int | None, str | None]:
    request = urllib.request.Request(url, body, dict(headers), method="POST")  # noqa: S310 (http and https, checked)
    try:
        with _opener.open(request, timeout=ANSWER_SECONDS) as answer:
            return int(answer.status), None
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return None, str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def parse_metadata(text: str | None) -> Any:
    """Return the JSON in a text; raises WorkerError."""
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise WorkerError(f"--metadata must be JSON: {error}") from None
