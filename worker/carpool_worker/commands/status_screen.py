"""What `carpool status` shows: a screen of 80 columns and 24 lines, or facts for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from carpool_worker.formatting import age, clock, counted, dollars, time_of
from carpool_worker.store.reports.lanes import LaneView
from carpool_worker.views.status import Overview

MOST_LANES = 5
MOST_LINES = 3
"""Lanes, and errors or alarms, that are shown; more are counted. With all of them it is a screen of 24 lines."""

BAR_WIDTH = 20


def facts(seen: Overview, alarms: Sequence[str]) -> dict[str, Any]:
    """Return everything for a program; times are ISO 8601, ages seconds, money dollars as text."""
    signs, dead = seen.signs, seen.deliveries
    return {
        "at": time_of(seen.at),
        "workers": list(signs.workers),
        "beat_age": signs.beat,
        "redis_error": signs.error,
        "inbox": {"requests": signs.inbox, "oldest_age": signs.oldest, "quarantined": signs.quarantined},
        "queue": {"requests": seen.queued, "limit": seen.queue_limit},
        "submit_windows_open_at": time_of(seen.opening.at) if seen.opening else None,
        "batches": {
            str(one.state): {
                "batches": one.batches,
                "requests": one.requests,
                "oldest_age": _seconds(seen.at - one.opened_at),
            }
            for one in seen.standings
        },
        "finished_in_a_day": {
            name: str(value) if name in ("cost", "list_price") and value is not None else value
            for name, value in seen.finished._asdict().items()
        },
        "retryable": {
            "requests": seen.retryable.rows,
            "next_at": _time_of(seen.retryable.at),
        },
        "held": dict(seen.held),
        "deliveries": {
            "due": dead.due.rows,
            "oldest_due_age": None if dead.due.at is None else _seconds(seen.at - dead.due.at),
            "retryable": dead.retryable.rows,
            "dead": dead.dead,
            "dead_in_a_day": dead.dead_lately,
            "stopped_endpoints": dead.stopped_endpoints,
        },
        "lanes": [
            {
                "lane": view.lane,
                "open": view.open_requests,
                "paused": view.pause.reason if view.pause else None,
            }
            for view in seen.lanes
        ],
        "errors": [mishap._asdict() for mishap in seen.errors],
        "needs_an_operator": list(alarms),
    }


def screen(seen: Overview, alarms: Sequence[str]) -> RenderableType:
    """Return the screen."""
    side_by_side = Table.grid(padding=(0, 3, 0, 0))
    side_by_side.add_row(_batches(seen), _lanes(seen))
    parts: list[RenderableType] = [_numbers(seen), "", side_by_side]
    errors = [f"{one.kind} {one.id}: {one.error}" for one in seen.errors[: 1 if alarms else MOST_LINES]]
    if errors:
        parts += ["", Text("Last errors", "bold"), *_cut(errors)]
    if alarms:
        parts += [Text("Needs an operator", "bold red"), *_cut(alarms[:MOST_LINES], "red")]
    if len(alarms) > MOST_LINES:
        parts.append(Text(f"  … and {len(alarms) - MOST_LINES:,} more: carpool status --check", "red"))
    return Group(*parts)


def _numbers(seen: Overview) -> Table:
    numbers = Table.grid(padding=(0, 2, 0, 0))
    numbers.add_column(style="bold", no_wrap=True, min_width=10)
    numbers.add_column(no_wrap=True, overflow="ellipsis")
    for name, value in _lines(seen):
        numbers.add_row(name, value)
    return numbers


def _lines(seen: Overview) -> Iterator[tuple[str, RenderableType]]:
    signs, deliveries = seen.signs, seen.deliveries
    yield "Carpool", Text(f"{time_of(seen.at)}   {_alive(seen)}")
    yield "Inbox", Text(_unknown(seen) or f"{signs.inbox:,} requests{_oldest(signs.oldest)}")
    used = Table.grid(padding=(0, 2, 0, 0))
    used.add_row(
        f"{seen.queued:,} of {seen.queue_limit:,} requests at Anthropic",
        Bar(seen.queue_limit, 0, min(seen.queued, seen.queue_limit), width=BAR_WIDTH, color="cyan"),
        f"{seen.queued / seen.queue_limit:.0%}",
    )
    yield "Queue", used
    if seen.opening:
        opens_at, window = seen.opening
        yield "Window", Text(f"closed until {clock(opens_at, seen.at)} ({window.text})")
    if seen.retryable.rows:
        yield "Retries", Text(f"{seen.retryable.rows:,} requests wait for another try")
    if seen.held:
        clients = counted(len(seen.held), "client")
        yield (
            "Budgets",
            Text(f"{sum(seen.held.values()):,} requests of {clients} wait for money: carpool clients"),
        )
    late = None if deliveries.due.at is None else (seen.at - deliveries.due.at) / 1_000
    due = f"{deliveries.due.rows:,} due{_oldest(late)}"
    yield "Deliveries", Text(f"{due} · {deliveries.retryable.rows:,} to retry · {deliveries.dead:,} dead")
    yield "Last 24 h", Text(_finished(seen))


def _alive(seen: Overview) -> str:
    signs = seen.signs
    beat = "beat is silent" if signs.beat is None else f"beat ticked {age(signs.beat * 1_000)} ago"
    return _unknown(seen) or f"{counted(len(signs.workers), 'worker')} alive   {beat}"


def _unknown(seen: Overview) -> str:
    return "unknown: Redis can't be used" if seen.signs.error is not None else ""


def _oldest(seconds: float | None) -> str:
    return "" if seconds is None else f", oldest {age(seconds * 1_000)}"


def _finished(seen: Overview) -> str:
    done = seen.finished
    counts = [f"{getattr(done, name):,} {name}" for name in ("succeeded", "errored", "canceled", "expired")]
    ended = ", ".join(text for text in counts if not text.startswith("0 "))
    parts = [f"{counted(done.batches, 'batch', 'batches')} finished", ended]
    if done.cost is not None and done.list_price is not None:
        parts.append(f"{dollars(done.cost)}, saved {dollars(done.list_price - done.cost)}")
    return " · ".join(filter(None, parts))


def _batches(seen: Overview) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(("Batches", "", "Requests", "Oldest")):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for one in seen.standings:
        table.add_row(str(one.state), f"{one.batches:,}", f"{one.requests:,}", age(seen.at - one.opened_at))
    if not seen.standings:
        table.add_row("none", "", "", "")
    return table


def _lanes(seen: Overview) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Lanes", no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column("Open", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for view in sorted(seen.lanes, key=lambda view: (view.pause is None, view.lane))[:MOST_LANES]:
        style = "yellow" if view.pause else ""
        table.add_row(
            Text(view.lane.removeprefix("claude-"), style), f"{view.open_requests:,}", _about(view, seen.at)
        )
    if len(seen.lanes) > MOST_LANES:
        table.add_row(f"… and {len(seen.lanes) - MOST_LANES:,} more: carpool lanes", "", "")
    return table


def _about(view: LaneView, at: int) -> str:
    if view.pause:
        return "paused"
    return age(at - view.opened_at) if view.opened_at else ""


def _cut(lines: Sequence[str], style: str = "") -> Iterator[Text]:
    return (Text(f"  {line}", style, no_wrap=True, overflow="ellipsis") for line in lines)


def _time_of(at: int | None) -> str | None:
    return None if at is None else time_of(at)


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1_000
