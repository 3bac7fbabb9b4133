"""Options of `carpool keys`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from carpool_worker.commands.completion import complete_key
from carpool_worker.commands.times import AGO, SECONDS

EVERYTHING = "every model"


def parts_of(written: str) -> list[str]:
    """Return what is separated by commas."""
    return [part.strip() for part in written.split(",") if part.strip()]


def seconds_of(option: str, written: str | None) -> float | None:
    """Return a duration in seconds: 90s, 15m, 12h, 30d or 2w; raises typer.BadParameter."""
    if written is None:
        return None
    if found := AGO.fullmatch(written):
        return float(int(found[1]) * SECONDS[found[2]])
    raise typer.BadParameter(f"{option} {written}: write 90s, 15m, 12h, 30d or 2w")


def moment_to_come(written: str) -> datetime:
    """Return a time to come: 12h, 30d, 2w from now, or a date (UTC); raises typer.BadParameter."""
    now = datetime.now(UTC)
    if found := AGO.fullmatch(written):
        return now + timedelta(seconds=int(found[1]) * SECONDS[found[2]])
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        raise typer.BadParameter(f"{written}: write 12h, 30d or 2w from now, or 2027-11-22") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if at <= now:
        raise typer.BadParameter(f"{written}: must be in the future")
    return at


KeyName = Annotated[
    str, typer.Argument(metavar="KEY", help="The key's name, or its id.", autocompletion=complete_key)
]
Name = Annotated[str | None, typer.Option("--name", help="The key's name.", show_default="the client's")]
Scopes = Annotated[
    str | None,
    typer.Option(
        "--scope",
        metavar="SCOPES",
        help="What it is for, with commas: messages, batches, usage, callbacks, admin, look, act, reveal.",
        show_default="messages,batches,usage",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", metavar="PATTERN", help="A model it may use: claude-haiku-*.", show_default=EVERYTHING
    ),
]
RequestsAMinute = Annotated[
    int | None,
    typer.Option("--requests-a-minute", help="Requests that it may send.", show_default="any number"),
]
MostQueued = Annotated[
    int | None,
    typer.Option("--most-queued", help="Its requests without an answer, at most.", show_default="any number"),
]
MostHeld = Annotated[
    int | None,
    typer.Option("--most-held", help="Its connections that wait, at most.", show_default="any number"),
]
Day = Annotated[
    str | None, typer.Option("--day", metavar="DOLLARS", help="Its budget a day.", show_default="none")
]
Month = Annotated[
    str | None, typer.Option("--month", metavar="DOLLARS", help="Its budget a month.", show_default="none")
]
OverBudget = Annotated[
    str, typer.Option("--over", metavar="wait|refuse", help="What becomes of requests over budget.")
]
LowestPriority = Annotated[int, typer.Option("--lowest-priority", help="The lowest that its requests have.")]
HighestPriority = Annotated[
    int, typer.Option("--highest-priority", help="The highest that its requests have.")
]
CallbackHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--callback-host",
        metavar="HOST",
        help="A host that webhooks may go to: *.example.com. Needs the scope callbacks.",
        show_default="every public one",
    ),
]
Workspaces = Annotated[
    bool, typer.Option("--workspaces", help="Let it choose the workspace at Anthropic by its header.")
]
Deadline = Annotated[
    str | None,
    typer.Option("--deadline", metavar="TIME", help="When answers are due, unless a request says so: 2h."),
]
DeadlinePolicy = Annotated[
    str | None,
    typer.Option(
        "--deadline-policy",
        metavar="call|batch|pay_again",
        help="What that may cost, unless a request says so.",
        show_default="call",
    ),
]
Expires = Annotated[
    datetime | None,
    typer.Option(
        "--expires",
        metavar="WHEN",
        parser=moment_to_come,
        help="When it ends: 90d from now, or a date (UTC).",
        show_default="never",
    ),
]
ExpiresAfter = Annotated[
    str | None,
    typer.Option("--expires-after", metavar="TIME", help="How long after its first use it ends: 8h, 30d."),
]
IfAbsent = Annotated[
    bool, typer.Option("--if-absent", help="Leave a key of this name and client as it is, if there is one.")
]
Revoked = Annotated[bool, typer.Option("--revoked", help="Also list those that were revoked.")]
Grace = Annotated[
    str, typer.Option("--grace", metavar="TIME", help="How long the secret before is valid: 0s, 12h, 7d.")
]
