"""`carpool purge`: erases a client's content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import Yes, actor, confirm
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    from carpool_worker.operations.purge import Purged

Client = Annotated[
    str, typer.Option("--client", help="The client, as its producer names it.", show_default=False)
]


def purge(client: Client, yes: Yes = False) -> None:
    """Erase everything that a client's requests and their answers say, at once and for good.

    Its waiting requests are canceled first, and cost nothing; the answers to those at Anthropic are dropped when they
    come. Then its params, answers, metadata, idempotency keys, callbacks, finished deliveries with their tries, unread
    replies and quarantined entries are erased. Stop its producers first. To purge a client again does no harm.

    What stays: usage and cost (of each request too: its id, client, model, states, times and sizes); a callback whose
    delivery is still due, which is then made without the content (purge again once it is over); and stopped webhook
    URLs. An id that was made from an idempotency key stays, so the same key is still the same request.

    Out of reach: answers that were delivered, backups, requests waiting in the queue carpool.enqueue, and what
    Anthropic keeps (29 days; delete the batch there). A SQLite file is rewritten, which needs as much room again
    meanwhile. In PostgreSQL deleted bytes stay on the disk until vacuum and later writes reuse the room, and in its
    write-ahead log. Example:

        carpool purge --client billing
    """
    from carpool_worker.database import engine
    from carpool_worker.operations.purge import count
    from carpool_worker.processes import preflight

    preflight.check_redis()
    preflight.check_tables()
    found = count(engine(), client)
    requests = counted(found, "request")
    confirm(f"Erase the content of client {client!r} ({requests}, and what is in the inbox) for good?", yes)
    _print(_purge(client, found))


def _purge(client: str, found: int) -> Purged:
    from redis import Redis

    from carpool_worker.commands.progress import progress_bar
    from carpool_worker.database import engine
    from carpool_worker.operations import purge as operation
    from carpool_worker.settings import settings

    with progress_bar() as bar, Redis.from_url(settings().redis_url) as server:
        task = bar.add_task("erasing", total=found or None)
        return operation.purge(
            engine(), server, client, settings(), lambda count: bar.advance(task, count), actor=actor()
        )


def _print(purged: Purged) -> None:
    canceled, kept = counted(purged.canceled, "request"), f"{purged.requests:,}"
    typer.echo(f"{canceled} canceled; {kept} in the ledger, without content now.")
    gone = [f"{purged.gone[name]:,} {name}" for name in ("params", "answers", "deliveries", "replies")]
    entries = counted(purged.gone["quarantined"], "quarantined entry", "quarantined entries")
    typer.echo(f"Erased: {', '.join(gone)}, {entries}.")
    if not purged.inbox_taken:
        typer.echo("A worker is still reading entries of the inbox: run this again in a minute.")
    if not purged.scrubbed:
        typer.echo("Deleted bytes stay in the database's files until it reuses their room (see --help).")
    if not purged.rewritten:
        typer.echo("Redis' append-only file was not rewritten: what was deleted stays in it until it is.")
