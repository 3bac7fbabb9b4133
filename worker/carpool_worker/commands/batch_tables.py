"""Batches as `carpool batches` shows them: as facts for programs, as a table, and one as a story."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from carpool_worker.commands.tables import time_of
from carpool_worker.flower.rows import contents, outcome
from carpool_worker.formatting import age
from carpool_worker.models import Batch
from carpool_worker.states import BatchState
from carpool_worker.views.wait_reasons import Scene, waits_for

ID_WIDTH = 32
"""Characters of an id: it is never cut."""

OUTCOMES = ("succeeded", "errored", "canceled", "expired")


def facts(batch: Batch, scene: Scene) -> dict[str, Any]:
    """Return what a program wants to know of a batch; times are ISO 8601, the age in seconds, money in dollars."""
    return {
        "id": batch.id,
        "model": batch.model,
        "lane": batch.lane,
        "state": str(batch.state),
        "age": (scene.at - batch.opened_at) // 1000,
        "requests": batch.request_count,
        "bytes": batch.body_bytes,
        "priority": batch.priority,
        "submit_by": time_of(batch.submit_by),
        "waiting_for": waits_for(batch, scene),
        "last_error": batch.last_error,
        "claude_id": batch.claude_id,
        "submissions": batch.submissions,
        "opened_at": time_of(batch.opened_at),
        "finished_at": time_of(batch.finished_at),
        **{name: getattr(batch, name) for name in OUTCOMES},
        "cost": None if batch.cost is None else str(batch.cost),
    }


def show_table(found: Sequence[Batch], scene: Scene) -> None:
    """Print the batches, newest last."""
    if not found:
        typer.echo("No such batch.")
        return
    table = Table(show_lines=True)
    table.add_column("Batch, model", width=ID_WIDTH, overflow="fold")
    table.add_column("State, age")
    table.add_column("Waiting for", overflow="fold")
    for batch in found:
        table.add_row(
            Text(f"{batch.id}\n{batch.model}"),
            Text(f"{batch.state}\n{age(scene.at - batch.opened_at)}"),
            Text(f"{contents(batch)}\n{waits_for(batch, scene) or outcome(batch) or batch.last_error or ''}"),
        )
    Console().print(table)


def story(batch: Batch, parts: Sequence[str]) -> list[tuple[str, str]]:
    """Return what happened to a batch, in order of time: (ISO 8601, words)."""
    return [
        (time_of(at) or "", words) for at, words in sorted(events(batch, parts), key=lambda event: event[0])
    ]


def show_story(known: Mapping[str, Any], events: Sequence[tuple[str, str]]) -> None:
    """Print the story of one batch."""
    typer.echo(f"{known['id']}  {known['model']}  {known['state']}")
    for at, words in events:
        typer.echo(f"{at}  {words}")
    for name in ("waiting_for", "last_error"):
        if known[name]:
            typer.echo(f"{name.replace('_', ' ')}: {known[name]}")
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(known["request_states"].items()))
    typer.echo(f"requests in it: {states or 'none'}")


def events(batch: Batch, parts: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield what happened to a batch: (milliseconds since the epoch, words)."""
    yield batch.opened_at, f"opened in lane {batch.lane}"
    if batch.sealed_at:
        origin = f", a part of {batch.parent_id}" if batch.parent_id else ""
        yield batch.sealed_at, f"sealed: {contents(batch)}{origin}"
        if marked := json.loads(batch.marked or "[]"):
            first = f"; batch {batch.warm_up_id} goes ahead to warm it up" if batch.warm_up_id else ""
            yield batch.sealed_at, f"shared prompts marked for the cache: {len(marked)}{first}"
    if batch.submitting_at:
        yield batch.submitting_at, f"post {batch.submissions} began"
    if batch.in_doubt_at:
        disowned = len(json.loads(batch.disowned_ids))
        let_go = f"; {disowned} of others were looked at and let go" if disowned else ""
        yield batch.in_doubt_at, f"in doubt: nobody knows whether the post made a batch{let_go}"
    if batch.in_progress_at and batch.claude_id:
        how = "found and adopted" if batch.in_doubt_at else "taken by Anthropic"
        yield batch.in_progress_at, f"{how} as {batch.claude_id}"
    if batch.ended_at:
        # By Anthropic's clock, in whole seconds: it can seem to have ended before it began.
        ended_at = max(batch.ended_at, batch.in_progress_at or 0)
        yield ended_at, f"ended: {', '.join(f'{getattr(batch, name):,} {name}' for name in OUTCOMES)}"
    if batch.finished_at:
        is_split = parts and batch.state == BatchState.REJECTED  # the part of a completed one is its warm-up
        into = f" into {', '.join(parts)}" if is_split else ""
        yield (
            batch.finished_at,
            f"{batch.state}{into}: {outcome(batch) or batch.last_error or 'nothing in it'}",
        )
