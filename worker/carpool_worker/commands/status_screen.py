"""What `carpool status` shows: a screen of 80 columns and 24 lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from carpool_worker.formatting import age, ago, clock, counted, dollars, time_of
from carpool_worker.units import SECOND
from carpool_worker.views.accounts import Queue
from carpool_worker.views.alerts import Alert
from carpool_worker.views.calls import CallsView
from carpool_worker.views.durations import DurationView
from carpool_worker.views.lanes import LaneView
from carpool_worker.views.status import Status

MOST_LANES = 5
MOST_LINES = 3
"""Lanes, and errors or alerts, that are shown; more are counted. With all of them it is a screen of 24 lines."""

NEARLY_FULL = 0.8
"""Of a client's quota: from then on it is shown."""

MOST_CLIENTS = 3
"""Clients whose turns are shown, the next first."""

BAR_WIDTH = 20

LONGEST_ALERT = 78
"""Characters of an alert that fit a line of 80."""

LONGEST_ACCOUNT = 20
"""Characters of an account's name that are shown."""


def screen(status: Status, alerts: Sequence[Alert]) -> RenderableType:
    """Return the screen."""
    side_by_side = Table.grid(padding=(0, 3, 0, 0))
    side_by_side.add_row(_batches(status), _lanes(status))
    parts: list[RenderableType] = [_numbers(status), "", side_by_side]
    errors = [f"{one.kind} {one.id}: {one.error}" for one in status.errors[: 1 if alerts else MOST_LINES]]
    if errors:
        parts += ["", Text("Last errors", "bold"), *_cut(errors)]
    if alerts:
        parts += [Text("Needs an operator", "bold red"), *_alerts(alerts[:MOST_LINES])]
    if len(alerts) > MOST_LINES:
        parts.append(Text(f"  … and {len(alerts) - MOST_LINES:,} more: carpool status --check", "red"))
    return Group(*parts)


def _numbers(status: Status) -> Table:
    numbers = Table.grid(padding=(0, 2, 0, 0))
    numbers.add_column(style="bold", no_wrap=True, min_width=10)
    numbers.add_column(overflow="fold")
    for name, value in _lines(status):
        numbers.add_row(name, Text(value) if isinstance(value, str) else value)
    return numbers


def _lines(status: Status) -> Iterator[tuple[str, RenderableType]]:
    yield "Carpool", f"{time_of(status.at)}   {_alive(status)}"
    yield "Inbox", _inbox(status)
    for account, queue in status.queues.items():
        yield "Queue" if len(status.queues) == 1 else account[:LONGEST_ACCOUNT], _queue(queue)
    if status.turns:
        yield "Turns", _turns(status)
    if status.opening:
        opens_at, window = status.opening
        yield "Window", f"closed until {clock(opens_at, status.at)} ({window.text})"
    if waiting := status.retryable.rows:
        yield "Retries", f"{counted(waiting, 'request waits', 'requests wait')} for another try"
    if status.held:
        yield "Budgets", _held(status)
    if full := [one for one in status.quotas if one.share >= NEARLY_FULL]:
        yield "Quotas", "; ".join(f"{one.client}: {one}" for one in full)
    if status.durations:
        yield "Durations", _durations(status.durations)
    if status.calls:
        yield "Calls", _calls(status.calls)
    yield "Deliveries", _deliveries(status)
    yield "Last 24 h", _finished(status)


def _inbox(status: Status) -> str:
    vitals = status.vitals
    return _unknown(status) or f"{counted(vitals.inbox, 'request')}{_oldest(vitals.oldest_age)}"


def _turns(status: Status) -> str:
    shown = [
        f"{one.client} ({one.share:.0%}, {one.waiting:,} waiting)" for one in status.turns[:MOST_CLIENTS]
    ]
    more = len(status.turns) - MOST_CLIENTS
    return f"next {', then '.join(shown)}{f', and {more:,} more: carpool clients' if more > 0 else ''}"


def _held(status: Status) -> str:
    requests = counted(sum(status.held.values()), "request")
    clients = counted(len(status.held), "client")
    return f"{requests} of {clients} held, as over budget: carpool clients"


def _durations(learned: Sequence[DurationView]) -> str:
    first, *others = learned
    half, most = age(first.half_within * SECOND), age(first.most_within * SECOND)
    more = f" · {len(others):,} more: --json" if others else ""
    return f"{first.model.removeprefix('claude-')}: half within {half}, 95 % within {most}{more}"


def _calls(calls: Sequence[CallsView]) -> str:
    parts = [
        f"{sum(one.queued for one in calls):,} queued",
        f"{sum(one.calling for one in calls):,} being made",
    ]
    if lost := sum(one.lost for one in calls):
        parts.append(f"{lost:,} lost in 24 h")
    if slowest := [one.most_within for one in calls if one.most_within is not None]:
        parts.append(f"95 % within {age(max(slowest) * SECOND)}")
    return " · ".join(parts)


def _deliveries(status: Status) -> str:
    deliveries = status.deliveries
    late = None if deliveries.due.at is None else (status.at - deliveries.due.at) / SECOND
    due = f"{deliveries.due.rows:,} due{_oldest(late)}"
    return f"{due} · {deliveries.retryable.rows:,} to retry · {deliveries.dead:,} dead"


def _queue(queue: Queue) -> Table:
    used = Table.grid(padding=(0, 2, 0, 0))
    used.add_row(
        f"{queue.requests:,} of {counted(queue.limit, 'request')} at Anthropic",
        Bar(queue.limit, 0, min(queue.requests, queue.limit), width=BAR_WIDTH, color="cyan"),
        f"{queue.requests / queue.limit:.0%}",
    )
    return used


def _alive(status: Status) -> str:
    vitals = status.vitals
    beat = "beat is silent" if vitals.beat_age is None else f"beat ticked {ago(vitals.beat_age * SECOND)}"
    return _unknown(status) or f"{counted(len(vitals.workers), 'worker')} alive   {beat}"


def _unknown(status: Status) -> str:
    return "unknown: Redis can't be used" if status.vitals.error is not None else ""


def _oldest(seconds: float | None) -> str:
    return "" if seconds is None else f", oldest {age(seconds * SECOND)}"


def _finished(status: Status) -> str:
    done = status.finished
    outcomes = ("succeeded", "errored", "canceled", "expired")
    ended = ", ".join(f"{count:,} {name}" for name in outcomes if (count := getattr(done, name)))
    parts = [f"{counted(done.batches, 'batch', 'batches')} finished", ended]
    if done.cost is not None and done.list_price is not None:
        parts.append(f"{dollars(done.cost)}, saved {dollars(done.list_price - done.cost)}")
    return " · ".join(filter(None, parts))


def _batches(status: Status) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(("Batches", "", "Requests", "Oldest")):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for one in status.batches:
        table.add_row(str(one.state), f"{one.batches:,}", f"{one.requests:,}", age(status.at - one.opened_at))
    if not status.batches:
        table.add_row("none", "", "", "")
    return table


def _lanes(status: Status) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Lanes", no_wrap=True, overflow="ellipsis", max_width=28)
    table.add_column("Open", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for view in sorted(status.lanes, key=lambda view: (not view.paused, view.lane))[:MOST_LANES]:
        name = Text(view.lane.removeprefix("claude-"), "yellow" if view.paused else "")
        table.add_row(name, f"{view.open_requests:,}", _about(view, status.at))
    if len(status.lanes) > MOST_LANES:
        table.add_row(f"… and {len(status.lanes) - MOST_LANES:,} more: carpool lanes", "", "")
    return table


def _about(view: LaneView, at: int) -> str:
    if view.paused:
        return "paused"
    return age(at - view.opened_at) if view.opened_at else ""


def _alerts(found: Iterable[Alert]) -> Iterator[Text]:
    """Yield a line for each; a command that has no room in it stands whole below it."""
    for one in found:
        if one.command and len(str(one)) > LONGEST_ALERT:
            yield from _cut([f"{one.sentence}:", f"  {one.command}"], "red")
        else:
            yield from _cut([str(one)], "red")


def _cut(lines: Iterable[str], style: str = "") -> Iterator[Text]:
    return (Text(f"  {line}", style, no_wrap=True, overflow="ellipsis") for line in lines)
