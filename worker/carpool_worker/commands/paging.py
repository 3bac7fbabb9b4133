"""What commands that list have in common: how a page is chosen, and how an id may be cut short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from carpool_worker.exceptions import WorkerError

LIKE = 5
"""Ids that are looked for where the beginning of one is given; where there are more, so many are named."""

Limit = Annotated[int, typer.Option(min=1, help="So many at most.")]
Before = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Older ones than this: the page before.", show_default="now"),
]
After = Annotated[
    str | None,
    typer.Option(metavar="ID", help="The next ones after this: the page after.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="A JSON object a line.")]


def the_one(kind: str, named: str, found: Sequence[str]) -> str:
    """Return the one id that was found.

    Raises:
        WorkerError: there is none, or more than one.
    """
    if not found:
        raise WorkerError(f"there is no {kind} {named}")
    if len(found) > 1:
        raise WorkerError(
            f"{named} begins more than one {kind}: {', '.join(found)}{', …' * (len(found) == LIKE)}"
        )
    return found[0]


def only_one(before: str | None, after: str | None) -> None:
    """Raise typer.BadParameter where both ends of a page are named."""
    if before and after:
        raise typer.BadParameter("it and --before: one of them", param_hint="--after")


def hint(command: str, shown: Sequence[str], limit: int) -> None:
    """Say on stderr how the page before is asked for, where there may be one."""
    if len(shown) == limit:
        typer.echo(f"Older ones: carpool {command} --before {shown[0]}", err=True)
