"""`carpool quarantine`: the inbox entries that could not be taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.formatting import counted, time_of

if TYPE_CHECKING:
    import redis

    from carpool_worker.pipeline.inbox.quarantine import QuarantinedEntry

SHOWN_BYTES = 256
"""Of an entry's contents, where they are asked for."""

app = typer.Typer(rich_markup_mode="markdown")

Entries = Annotated[list[str], typer.Argument(help="Ids of entries, as the list shows them.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


@app.callback(invoke_without_command=True)
def quarantine(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line.")] = False,
) -> None:
    """List the inbox entries that could not be taken, with the reason of each.

    An entry that holds no requests, or one that would make the database or the API refuse all that travel with it, is
    set apart as it came, so that the inbox goes on. Carpool's own producers send none. Example, after an upgrade:

        carpool quarantine
        carpool quarantine show 1767225600000-0
        carpool quarantine retry 1767225600000-0
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.pipeline.inbox.quarantine import entries

    with _redis() as server:
        if as_json:
            for entry in entries(server):
                typer.echo(json.dumps(_facts(entry)))
        else:
            _print_table(entries(server))


@app.command()
def show(
    entry: Annotated[str, typer.Argument(help="The id of an entry, as the list shows it.")],
    content: Annotated[
        bool, typer.Option("--content", help="Its first bytes too: they may be a prompt.")
    ] = False,
) -> None:
    """Show one entry: its fields, their sizes, whose it is where that can be read, and what is wrong with it."""
    from carpool_worker.pipeline.inbox.quarantine import find

    with _redis() as server:
        found = find(server, entry)
    for name, fact in _facts(found).items():
        typer.echo(f"{name:8} {fact}")
    typer.echo(f"{'clients':8} {', '.join(map(repr, sorted(found.clients()))) or 'unreadable'}")
    for field, value in found.fields.items():
        typer.echo(f"{'field':8} {field!r}, {len(value):,} bytes")
        if content:
            typer.echo(_hexadecimal(value[:SHOWN_BYTES]))


@app.command()
def drop(entries: Entries, yes: Yes = False) -> None:
    """Delete entries for good: the requests in them, if there are any, are lost."""
    from carpool_worker.pipeline.inbox import quarantine

    with _redis() as server:
        found = [quarantine.find(server, entry) for entry in entries]
        if not yes:
            typer.confirm(f"Delete {counted(len(found), 'entry', 'entries')} for good?", abort=True)
        dropped = quarantine.drop(server, [one.id for one in found])
    typer.echo(f"{counted(dropped, 'entry', 'entries')} dropped.")


@app.command()
def retry(entries: Entries) -> None:
    """Put entries back into the inbox: a request that was taken before isn't taken twice.

    One that this version can't take either stays where it is.
    """
    from carpool_worker.pipeline.inbox import quarantine

    with _redis() as server:
        found = [quarantine.find(server, entry) for entry in entries]
        back = sum(quarantine.retry(server, one) for one in found)
    typer.echo(f"{counted(back, 'entry', 'entries')} put back into the inbox.")


@contextmanager
def _redis() -> Iterator[redis.Redis]:
    from redis import Redis

    from carpool_worker.processes import preflight
    from carpool_worker.settings import settings

    preflight.check_redis()
    with Redis.from_url(settings().redis_url) as server:
        yield server


def _print_table(entries: Iterator[QuarantinedEntry]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("Entry", "Set apart (UTC)", "Bytes", "Reason")
    for entry in entries:
        facts = _facts(entry)
        table.add_row(entry.id, str(facts["at"]), f"{entry.size:,}", Text(entry.reason))
    if table.row_count:
        Console().print(table)
    else:
        typer.echo("The quarantine is empty.")


def _facts(entry: QuarantinedEntry) -> dict[str, str | int]:
    return {
        "id": entry.id,
        "at": time_of(entry.at),
        "bytes": entry.size,
        "reason": entry.reason,
    }


def _hexadecimal(data: bytes) -> str:
    rows = [data[start : start + 16] for start in range(0, len(data), 16)]
    shown = ("".join(chr(byte) if 32 <= byte < 127 else "." for byte in row) for row in rows)
    return "\n".join(f"  {row.hex(' '):47}  {text}" for row, text in zip(rows, shown, strict=True))
