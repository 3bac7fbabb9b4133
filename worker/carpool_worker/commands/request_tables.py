"""Requests as `carpool requests` lays them out: as a table, and one as a story."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import typer

from carpool_worker.commands.tables import print_story, print_table
from carpool_worker.formatting import age, time_of
from carpool_worker.views.requests import RequestDetails, RequestView


def show_table(found: Sequence[RequestView], now: int) -> None:
    """Print the requests, newest last."""
    if not found:
        typer.echo("No requests found.")
        return
    lines = [[one.id, one.state, age(now - one.enqueued_at), _about(one)] for one in found]
    print_table(("Request", "State", "Age", "Client, model"), lines)


def show_details(request: RequestDetails) -> None:
    """Print one request: its story, what it waits for, its delivery, and what it says if that was asked for."""
    typer.echo(f"{request.id}  {request.state}")
    print_story(request.story)
    lines = {
        "why it failed": request.failure,
        "priority": request.priority,
        "submit by": time_of(request.submit_by) if request.submit_by else None,
        "deadline": _deadline(request),
        "tags": ", ".join(request.tags),
        "client's batch": request.client_batch,
        "waiting for": request.waiting_for,
        "callback": request.callback,
        "delivery": request.delivery,
        "delivery error": request.delivery_error,
    }
    for name, value in lines.items():
        if value:
            typer.echo(f"{name}: {value}")
    for name, content in asdict(request.contents).items() if request.contents else ():
        typer.echo(f"{name.replace('_', ' ')}: {json.dumps(content, ensure_ascii=False, indent=2)}")


def _deadline(request: RequestDetails) -> str:
    if request.deadline is None:
        return ""
    late = ", missed" if request.is_late else ""
    return f"{time_of(request.deadline)} ({request.deadline_policy}){late}"


def _about(request: RequestView) -> str:
    ended = request.error or request.outcome
    outcome = f" · {ended}" if ended else " · over its budget" if request.held_at else ""
    return f"{request.client} · {request.model.removeprefix('claude-')}{outcome}"
