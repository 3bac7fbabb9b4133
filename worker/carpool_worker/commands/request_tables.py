"""Requests as `carpool requests` shows them: as facts for programs, as a table, and one as a story."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import typer

from carpool_worker.commands.batch_tables import events as events_of_batch
from carpool_worker.commands.tables import print_table, time_of
from carpool_worker.formatting import age, dollars
from carpool_worker.models import Batch, DeliveryRow, Request
from carpool_worker.store.deliveries.dead_letters import Try
from carpool_worker.store.reports.requests import Contents

TOKENS = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")
WORDS = ("metadata", "idempotency_key", "params", "answer")
"""What is shown with --content alone."""


def facts(request: Request) -> dict[str, Any]:
    """Return what a program wants to know of a request; times are ISO 8601, money dollars as text."""
    return {
        "id": request.id,
        "client": request.client,
        "model": request.model,
        "lane": request.lane,
        "state": str(request.state),
        "attempt": request.attempt,
        "outcome": request.outcome,
        "batch_id": request.batch_id or None,
        "priority": request.priority,
        "enqueued_at": time_of(request.enqueued_at),
        "submit_by": time_of(request.submit_by),
        "retry_at": None if request.held_at else time_of(request.retry_at),
        "held_at": time_of(request.held_at),
        "finished_at": time_of(request.finished_at),
        **{name: getattr(request, name) for name in TOKENS},
        "cost": _text(request.cost),
        "list_price": _text(request.list_price),
        "estimate": _text(request.estimate),
    }


def circumstances(request: Request, delivery: DeliveryRow | None) -> dict[str, Any]:
    """Return what else is told of one request."""
    callback = json.loads(request.callback) if request.callback else {}
    return {
        "params_bytes": request.params_bytes,
        "callback": callback.get("url") or callback.get("name"),
        "delivery": str(delivery.state) if delivery else None,
        "delivery_error": delivery.last_error if delivery else None,
        "waiting_for": f"another try at {time_of(request.retry_at)}" if request.retry_at else None,
    }


def words(request: Request, contents: Contents) -> dict[str, Any]:
    """Return what the request says and was answered; None where it isn't kept."""
    return {
        "metadata": json.loads(request.request_metadata) if request.request_metadata else None,
        "idempotency_key": request.idempotency_key,
        "params": json.loads(contents.params) if contents.params else None,
        "answer": json.loads(contents.answer) if contents.answer else None,
    }


def show_table(found: Sequence[Request], now: int) -> None:
    """Print the requests, newest last."""
    if not found:
        typer.echo("No such request.")
        return
    lines = [[one.id, str(one.state), age(now - one.enqueued_at), _about(one)] for one in found]
    print_table(("Request", "State", "Age", "Client, model"), lines, whole=3)


def story(
    request: Request, batch: Batch | None, delivery: DeliveryRow | None, tries: Sequence[Try]
) -> list[tuple[str, str]]:
    """Return what happened to a request, in order of time: (ISO 8601, words)."""
    events = [*_begins(request), *_goes_out(batch), *_ends(request), *_is_delivered(delivery, tries)]
    return [(time_of(at) or "", words) for at, words in sorted(events, key=lambda event: event[0])]


def show_story(known: Mapping[str, Any], events: Sequence[tuple[str, str]]) -> None:
    """Print the story of one request."""
    typer.echo(f"{known['id']}  {known['state']}")
    for at, said in events:
        typer.echo(f"{at}  {said}")
    for name in ("priority", "submit_by", "waiting_for", "callback", "delivery", "delivery_error"):
        if known[name]:
            typer.echo(f"{name.replace('_', ' ')}: {known[name]}")
    for name in WORDS:
        if name in known:
            typer.echo(f"{name.replace('_', ' ')}: {json.dumps(known[name], ensure_ascii=False, indent=2)}")


def _begins(request: Request) -> Iterator[tuple[int, str]]:
    yield (
        request.enqueued_at,
        f"enqueued by {request.client} for {request.model}, {request.params_bytes:,} bytes",
    )
    if request.batch_id:
        yield request.batched_at, f"put into batch {request.batch_id}, for attempt {request.attempt}"
    else:
        yield request.batched_at, "put aside: its client's budget had no room for it"
    if request.cancel_requested_at:
        yield request.cancel_requested_at, "wanted by nobody any more: to be canceled"


def _goes_out(batch: Batch | None) -> Iterator[tuple[int, str]]:
    if batch is not None:
        ours = (batch.opened_at, batch.finished_at)
        yield from ((at, f"its batch: {words}") for at, words in events_of_batch(batch, ()) if at not in ours)


def _ends(request: Request) -> Iterator[tuple[int, str]]:
    if request.finished_at is None:
        return
    used = (
        f" · {request.input_tokens:,} tokens in, {request.output_tokens:,} out"
        if request.output_tokens
        else ""
    )
    cost = f" · {dollars(request.cost)}" if request.cost is not None else ""
    yield request.finished_at, f"{request.state}: {request.outcome}{used}{cost}"


def _is_delivered(delivery: DeliveryRow | None, tries: Sequence[Try]) -> Iterator[tuple[int, str]]:
    for one in tries:
        answer = ", ".join(str(part) for part in (one.status, one.detail) if part is not None)
        yield one.at, f"delivery, try {one.attempt}: {answer or 'sent'} ({one.milliseconds:,} ms)"
    if delivery and delivery.delivered_at:
        yield delivery.delivered_at, f"delivered to {delivery.target}"
    if delivery and delivery.discarded_at:
        yield delivery.discarded_at, f"delivery given up on: {delivery.last_error}"


def _about(request: Request) -> str:
    outcome = f" · {request.outcome}" if request.outcome else " · over its budget" if request.held_at else ""
    return f"{request.client} · {request.model.removeprefix('claude-')}{outcome}"


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"
