"""How commands lead from one page of a list to the next."""

from __future__ import annotations

from collections.abc import Sequence

import typer


def only_one(before: str | None, after: str | None) -> None:
    """Raise typer.BadParameter if both ends of a page are named."""
    if before and after:
        raise typer.BadParameter("can't be combined with --before", param_hint="--after")


def hint(command: str, shown: Sequence[str], limit: int) -> None:
    """Print on stderr how to list the page before, if there may be one."""
    if len(shown) == limit:
        typer.echo(f"Older ones: carpool {command} --before {shown[0]}", err=True)
