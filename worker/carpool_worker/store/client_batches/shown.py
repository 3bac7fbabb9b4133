"""A client's batch as the API words it, and as a webhook tells of its end."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from carpool_worker.models import ClientBatch
from carpool_worker.policies.client_batches import shown_id, status
from carpool_worker.states import OUTCOMES
from carpool_worker.units import SECOND


def message_batch(batch: ClientBatch, origin: str | None) -> dict[str, Any]:
    """Return the API's `message_batch`; `origin` is how the gateway's URLs begin for whom it is shown."""
    shown = shown_id(batch.id)
    has_results = batch.ended_at is not None and batch.archived_at is None and origin is not None
    return {
        "id": shown,
        "type": "message_batch",
        "processing_status": status(
            is_canceling=batch.cancel_initiated_at is not None, has_ended=batch.ended_at is not None
        ),
        "request_counts": {name: getattr(batch, name) for name in ("processing", *OUTCOMES)},
        "created_at": _time(batch.created_at),
        "expires_at": _time(batch.expires_at),
        "ended_at": _time(batch.ended_at),
        "cancel_initiated_at": _time(batch.cancel_initiated_at),
        "archived_at": _time(batch.archived_at),
        "results_url": f"{origin}/v1/messages/batches/{shown}/results" if has_results else None,
    }


def told(batch: ClientBatch) -> dict[str, Any]:
    """Return the `data` of the delivery that says that a batch has ended: the same, with what it cost, in dollars."""
    paid = {"cost": dollars(batch.cost), "list_price": dollars(batch.list_price)}
    return message_batch(batch, batch.origin) | paid


def dollars(amount: Decimal) -> str:
    """Return dollars as a decimal string."""
    return f"{amount.normalize():f}"


def _time(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / SECOND, UTC).isoformat(timespec="microseconds")
