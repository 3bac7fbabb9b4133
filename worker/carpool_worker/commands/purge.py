"""`carpool purge`: erases a client's content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from carpool_worker.operations.purge import Purged


def purge(
    client: Annotated[str, typer.Option(help="The client, as its producer names it.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Erase all that a client's requests said and were answered, at once and for good.

    Its requests that wait are canceled first, and cost nothing; those at Anthropic are marked, and their answers
    dropped when they come. Then params, answers, metadata, idempotency keys, callbacks, deliveries that are over with
    their tries, unread replies and quarantined entries go. Stop its producers first. It may be run again at any time.

    What stays: usage and cost (also of each request, with its id, client, model, states, times and sizes); a callback
    while its delivery is still due, which is then made without the content: run this again when it is over; and
    stopped webhook URLs. An id that was made from an idempotency key stays, so the same key is still the same request.

    What this can't reach: answers that were delivered, backups, requests that wait at the Celery door, what Anthropic
    keeps (29 days; delete the batch there). A SQLite file is written anew, which takes as much room again while it
    lasts. In PostgreSQL deleted bytes stay on the disk until vacuum and later writes take the room, and in its log.

        carpool purge --client billing
    """
    from carpool_worker.database import engine, read
    from carpool_worker.processes import preflight
    from carpool_worker.store import erasure

    preflight.check_redis()
    preflight.check_tables()
    with read(engine()) as connection:
        found = erasure.count(connection, client)
    if not yes:
        question = f"Erase the content of client {client!r} ({found:,} requests, and what waits) for good?"
        typer.confirm(question, abort=True)
    _print(_purge(client, found))


def _purge(client: str, found: int) -> Purged:
    from redis import Redis
    from rich.console import Console
    from rich.progress import Progress

    from carpool_worker.database import engine
    from carpool_worker.operations import purge as purger
    from carpool_worker.settings import settings

    # On stderr, so that the counts alone can be piped on; without a terminal Rich draws nothing but the end.
    with (
        Progress(console=Console(stderr=True), transient=True) as bar,
        Redis.from_url(settings().redis_url) as server,
    ):
        task = bar.add_task("erasing", total=found or None)
        return purger.purge(engine(), server, client, settings(), lambda count: bar.advance(task, count))


def _print(purged: Purged) -> None:
    typer.echo(
        f"{purged.canceled:,} requests canceled; {purged.requests:,} in the ledger, without content now."
    )
    gone = [f"{purged.gone[name]:,} {name}" for name in ("params", "answers", "deliveries", "replies")]
    typer.echo(f"Erased: {', '.join(gone)}, {purged.gone['quarantined']:,} quarantined entries.")
    if not purged.inbox_taken:
        typer.echo("A worker still holds entries of the inbox: run this again in a minute.")
    if not purged.scrubbed:
        typer.echo("Deleted bytes stay in the database's files until it uses their room again (see --help).")
    if not purged.rewritten:
        typer.echo("Redis' append-only file was not rewritten: it forgets what was deleted when it next is.")
