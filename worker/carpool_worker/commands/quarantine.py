"""`carpool quarantine`: the inbox entries that could not be taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import Json, Yes, actor, confirm
from carpool_worker.commands.tables import print_json
from carpool_worker.formatting import counted, size, time_of

if TYPE_CHECKING:
    import redis

    from carpool_worker.views.quarantine import EntryView

SHOWN_BYTES = 256
"""Of each field, if its contents are asked for."""

app = typer.Typer(rich_markup_mode="markdown")

Entry = Annotated[str, typer.Argument(metavar="ENTRY", help="An entry's id, as the list shows it.")]
Entries = Annotated[
    list[str], typer.Argument(metavar="ENTRY", help="The ids of entries, as the list shows them.")
]
Content = Annotated[
    bool, typer.Option("--content", help="Also show the first bytes of each field: they may be a prompt.")
]


@app.callback(invoke_without_command=True)
def quarantine(context: typer.Context, as_json: Json = False) -> None:
    """List the inbox entries that could not be taken, each with the reason.

    An entry that holds no requests, or one that would make the database or the API refuse everything that travels with
    it, is set apart as it came, so that the inbox goes on. Carpool's own producers send none. After an upgrade:

        carpool quarantine
        carpool quarantine show 1767225600000-0
        carpool quarantine retry 1767225600000-0
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.views.quarantine import entries

    with _redis() as server:
        if as_json:
            print_json(entries(server))
        else:
            _print_table(entries(server))


@app.command()
def show(entry: Entry, content: Content = False) -> None:
    """Show one entry: what is wrong with it, whose requests it holds if that can be read, and its fields."""
    from carpool_worker.views.quarantine import find

    with _redis() as server:
        found = find(server, entry)
    clients = ", ".join(map(repr, found.clients)) or "unreadable"
    facts = {"id": found.id, "at": time_of(found.at), "bytes": found.bytes, "reason": found.reason}
    for name, fact in (facts | {"clients": clients}).items():
        typer.echo(f"{name:8} {fact}")
    for field in found.fields:
        typer.echo(f"{'field':8} {field.name!r}, {size(len(field.value))}")
        if content:
            typer.echo(_hexadecimal(field.value[:SHOWN_BYTES]))


@app.command()
def drop(entries: Entries, yes: Yes = False) -> None:
    """Delete entries for good: if there are requests in them, they are lost."""
    from carpool_worker.operations import quarantine as operation
    from carpool_worker.views.quarantine import find

    with _redis() as server:
        found = [find(server, entry) for entry in entries]
        confirm(f"Delete {_entries(len(found))} for good?", yes)
        dropped = operation.drop(server, [one.id for one in found], actor=actor())
    typer.echo(f"{_entries(dropped)} dropped.")


@app.command()
def retry(entries: Entries) -> None:
    """Put entries back into the inbox; a request that was taken before isn't taken twice.

    An entry that this version can't take either stays where it is.
    """
    from carpool_worker.operations import quarantine as operation

    with _redis() as server:
        count = operation.retry(server, entries, actor=actor())
    typer.echo(f"{_entries(count)} put back into the inbox.")


@contextmanager
def _redis() -> Iterator[redis.Redis]:

    from carpool_worker.processes.preflight import check_redis
    from carpool_worker.settings import settings

    check_redis(starts_within=0)  # somebody waits for the answer
    with settings().redis() as server:
        yield server


def _print_table(entries: Iterable[EntryView]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("Entry", "Set apart", "Size", "Reason")
    for entry in entries:
        table.add_row(entry.id, time_of(entry.at), size(entry.bytes), Text(entry.reason))
    if table.row_count:
        Console().print(table)
    else:
        typer.echo("The quarantine is empty.")


def _hexadecimal(data: bytes) -> str:
    rows = [data[start : start + 16] for start in range(0, len(data), 16)]
    shown = ("".join(chr(byte) if 32 <= byte < 127 else "." for byte in row) for row in rows)
    return "\n".join(f"  {row.hex(' '):47}  {text}" for row, text in zip(rows, shown, strict=True))


def _entries(count: int) -> str:
    return counted(count, "entry", "entries")
