"""`carpool retry`: what was discarded is put back, to be tried again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.completion import complete_client, complete_request
from carpool_worker.commands.paging import LIKE, the_one
from carpool_worker.commands.times import Since
from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import counted, dollars

if TYPE_CHECKING:
    import sqlalchemy as sa

    from carpool_worker.operations.retry import Estimate
    from carpool_worker.store.requests.discarded import Chance, Wanted

DAY = 86_400_000
"""Milliseconds."""


def retry(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="Requests: their ids, or the beginnings of these.",
            show_default=False,
            autocompletion=complete_request,
        ),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(help="Only those of this client.", show_default="all", autocompletion=complete_client),
    ] = None,
    since: Since = None,
    all_: Annotated[bool, typer.Option("--all", help="All that were discarded.")] = False,
    even_paid: Annotated[
        bool,
        typer.Option(
            "--even-paid",
            help="Those too whose answer was lost, and perhaps paid for: they may be paid for twice.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Put discarded requests back: each goes into a new batch, and is tried as often as a new one.

    That costs money again only where an answer comes, and the question says how much, by what the same client's answers
    of the same model have cost. A request whose answer may have been made and paid for, but could not be read, stays
    as it is without --even-paid. So does one whose params are no longer kept (params_retention_days), or that its
    client wanted canceled. No budget keeps back what is put back by hand.

    A callback that was told of the failure is called again, with the same webhook-id: a receiver that drops what it has
    seen must forget it first. Examples:

        carpool requests --state discarded
        carpool retry 01a2030b867d76f384b2c810994db967
        carpool retry --client billing --since 12h
    """
    if not (ids or client or since is not None or all_):
        raise typer.BadParameter("say which: ids of requests, --client, --since or --all")
    from carpool_worker.database import engine, read
    from carpool_worker.operations import retry as put_back
    from carpool_worker.processes.preflight import check_tables

    check_tables()
    chances = _chances(even_paid)
    with read() as connection:
        wanted = _wanted(connection, ids, client, since)
        estimate = put_back.estimate(connection, wanted, chances)
    _tell_what_stays(estimate, chances)
    if not estimate.count(chances):
        raise WorkerError("none of these requests can be put back")
    if not yes:
        typer.confirm(_question(estimate, chances), abort=True)
    typer.echo(f"{counted(put_back.put_back(engine(), wanted, chances), 'request')} put back.")


def _chances(even_paid: bool) -> list[Chance]:
    from carpool_worker.store.requests.discarded import Chance

    return [Chance.FREE, Chance.PAID] if even_paid else [Chance.FREE]


def _wanted(
    connection: sa.Connection, ids: list[str] | None, client: str | None, since: int | None
) -> Wanted:
    from carpool_worker.database import now
    from carpool_worker.settings import settings
    from carpool_worker.store.reports.ids import requests_like
    from carpool_worker.store.requests.discarded import PRUNING_MARGIN, Wanted

    at = now()
    named = [the_one("request", one, requests_like(connection, one, LIKE)) for one in ids] if ids else None
    kept_since = at - int(settings().params_retention_days * DAY) + PRUNING_MARGIN
    return Wanted(kept_since, named, client, since, until=at)


def _tell_what_stays(estimate: Estimate, chances: Sequence[Chance]) -> None:
    from carpool_worker.store.requests.discarded import Chance

    why = {
        Chance.PAID: "lost an answer that may have been paid for: --even-paid runs and pays for it again",
        Chance.UNWANTED: "wanted by their client no more",
        Chance.GONE: "no longer kept, or not for long",
        Chance.BUSY: "just being told to a callback: try again in a minute",
    }
    for chance, words in why.items():
        if (count := estimate.counts.get(chance, 0)) and chance not in chances:
            typer.echo(f"{count:,} stay discarded: {words}.", err=True)


def _question(estimate: Estimate, chances: Sequence[Chance]) -> str:
    from carpool_worker.store.requests.discarded import Chance

    count = estimate.count(chances)
    parts = [f"about {dollars(estimate.cost)}"]
    if estimate.unpriced:
        parts = [*parts[: count > estimate.unpriced], f"an unknown cost of {estimate.unpriced:,}"]
    notes = [f"Put {counted(count, 'request')} back, for {' and '.join(parts)}"]
    if Chance.PAID in chances and estimate.counts.get(Chance.PAID):
        notes.append(f"{estimate.counts[Chance.PAID]:,} of them may have been paid for already")
    if estimate.told:
        notes.append(f"{estimate.told:,} callbacks were told of the failure")
    return "; ".join(notes) + "?"
