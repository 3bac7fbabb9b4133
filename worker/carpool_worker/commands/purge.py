"""`carpool purge`: erases the content of a client, or of one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.completion import complete_client, complete_request
from carpool_worker.commands.options import Yes, actor, confirm
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    from carpool_worker.operations.purge import Purged

Client = Annotated[
    str | None,
    typer.Option(
        "--client",
        help="The client, as its producer names it.",
        show_default=False,
        autocompletion=complete_client,
    ),
]
Request = Annotated[
    str | None,
    typer.Option(
        "--request",
        metavar="ID",
        help="Only this request: its id, or the beginning of it.",
        show_default=False,
        autocompletion=complete_request,
    ),
]


def purge(client: Client = None, request: Request = None, yes: Yes = False) -> None:
    """Erase everything that a client's requests and their answers say, at once and for good; or only one request's.

    Its waiting requests are canceled first, and cost nothing; the answers to those at Anthropic are dropped when they
    come. Then its params, answers, metadata, tags, idempotency keys, error texts, callbacks, finished deliveries with
    their tries, unread replies and quarantined entries are erased. Stop its producers first. To purge a client again
    does no harm.

    What stays: usage and cost (of each request too: its id, client, model, states, times and sizes); a callback whose
    delivery is still due, which is then made without the content, or that requests at Anthropic have (purge again once
    they are over); and stopped webhook URLs. An id that was made from an idempotency key stays, so the same key is
    still the same request. With --request, the callback stays while others that were enqueued with it may need it.

    Out of reach: answers that were delivered, backups, replicas, requests in the queue carpool.enqueue, and what
    Anthropic keeps (29 days; delete the batch there). A SQLite file is rewritten, which needs as much room again
    meanwhile. In PostgreSQL deleted bytes stay on the disk, until VACUUM FULL (docs/operations.md) or later writes that
    reuse the room, and in its write-ahead log. Examples:

        carpool purge --client billing
        carpool purge --request 01a2030b867d76f384b2c810994db967
    """
    if (client is None) == (request is None):
        raise typer.BadParameter("name either --client or --request")
    from carpool_worker.processes import preflight

    preflight.check_redis(starts_within=0)  # somebody waits for the answer
    preflight.check_tables()
    _print(_purge_client(client, yes) if client is not None else _purge_request(str(request), yes))


def _purge_client(client: str, yes: bool) -> Purged:

    from carpool_worker.commands.progress import progress_bar
    from carpool_worker.database import engine
    from carpool_worker.operations import purge as operation
    from carpool_worker.settings import settings

    found = operation.count(engine(), client)
    requests = counted(found, "request")
    confirm(f"Erase the content of client {client!r} ({requests}, and what is in the inbox) for good?", yes)
    with progress_bar() as bar, settings().redis() as server:
        task = bar.add_task("erasing", total=found or None)
        return operation.purge(
            engine(), server, client, settings(), lambda count: bar.advance(task, count), actor=actor()
        )


def _purge_request(named: str, yes: bool) -> Purged:

    from carpool_worker.database import engine, read
    from carpool_worker.operations import purge as operation
    from carpool_worker.settings import settings
    from carpool_worker.views import lookup

    with read() as connection:
        request_id = lookup.request_id(connection, named)
    confirm(f"Erase the content of request {request_id} for good?", yes)
    with settings().redis() as server:
        return operation.purge_request(engine(), server, request_id, settings(), actor=actor())


def _print(purged: Purged) -> None:
    canceled, kept = counted(purged.canceled, "request"), f"{purged.requests:,}"
    typer.echo(f"{canceled} canceled; {kept} in the ledger, without content now.")
    gone = [f"{purged.gone[name]:,} {name}" for name in ("params", "answers", "deliveries", "replies")]
    entries = counted(purged.gone["quarantined"], "quarantined entry", "quarantined entries")
    typer.echo(f"Erased: {', '.join(gone)}, {entries}.")
    if purged.quarantined_with_others:
        entries = counted(purged.quarantined_with_others, "quarantined entry", "quarantined entries")
        typer.echo(f"It is still in {entries}, with others: see `carpool quarantine`.")
    if not purged.inbox_taken:
        typer.echo("A worker is still reading entries of the inbox: run this again in a minute.")
    if not purged.scrubbed:
        typer.echo("Deleted bytes stay in the database's files until it reuses their room (see --help).")
    if not purged.rewritten:
        typer.echo("Redis' append-only file was not rewritten: what was deleted stays in it until it is.")
