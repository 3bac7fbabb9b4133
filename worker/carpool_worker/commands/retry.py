"""`carpool retry`: tries discarded requests again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.commands.options import OfClient, OfModel, RequestIds, Since, Yes, actor, confirm
from carpool_worker.exceptions import WorkerError
from carpool_worker.formatting import counted, dollars

if TYPE_CHECKING:
    from carpool_worker.operations.retry import Chance, Estimate

OfError = Annotated[
    str | None,
    typer.Option(
        "--error", metavar="TYPE", help="Only those that failed with this type of error.", show_default="all"
    ),
]
All = Annotated[bool, typer.Option("--all", help="All that were discarded.")]
EvenPaid = Annotated[
    bool,
    typer.Option(
        "--even-paid",
        help="Also those whose answer was lost, and perhaps paid for: they may be paid for twice.",
    ),
]


def retry(
    ids: RequestIds = None,
    client: OfClient = None,
    since: Since = None,
    error: OfError = None,
    model: OfModel = None,
    all_: All = False,
    even_paid: EvenPaid = False,
    yes: Yes = False,
) -> None:
    """Retry discarded requests: each goes into a new batch, and is tried as often as a new one.

    Only answers cost money again. The question that is asked first estimates how much, by what answers of the same
    client and model have cost. A request whose answer may have been made and paid for, but could not be read, is left
    alone without --even-paid. So is one whose params are no longer kept (params_retention_days), or that its client
    canceled. `carpool retry` bypasses the budget.

    A callback that knows of the failure is called again. The webhook-id has another number at its end then, so that a
    receiver that drops what it has seen before lets the new answer in. Examples:

        carpool requests --state discarded
        carpool retry 01a2030b867d76f384b2c810994db967
        carpool retry --client billing --since 12h
        carpool retry --error api_error --model claude-haiku-4-5 --since 1d
    """
    if not (ids or client or error or model or since is not None or all_):
        raise typer.BadParameter("name request ids, --client, --error, --model, --since or --all")
    from carpool_worker.database import engine, read
    from carpool_worker.operations import retry as operation
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings

    check_tables()
    chances = operation.chances(even_paid=even_paid)
    with read() as connection:
        wanted = operation.choose(connection, settings(), ids, client, since, error, model)
        estimate = operation.estimate(connection, wanted, chances)
    _confirm(estimate, chances, yes)
    count = operation.retry(engine(), wanted, chances, actor=actor())
    typer.echo(f"{counted(count, 'request')} will be tried again.")


def _confirm(estimate: Estimate, chances: Sequence[Chance], yes: bool) -> None:
    """Explain what is left alone, and ask; raises WorkerError if nothing is left to retry."""
    _explain_what_stays(estimate, chances)
    if not estimate.count(chances):
        raise WorkerError("none of these requests can be retried")
    confirm(_question(estimate, chances), yes)


def _explain_what_stays(estimate: Estimate, chances: Sequence[Chance]) -> None:
    from carpool_worker.operations.retry import Chance

    why = {
        Chance.PAID: "the answer was lost and may have been paid for; --even-paid runs and pays for it again",
        Chance.UNWANTED: "canceled by the client",
        Chance.GONE: "the params are no longer kept, or not for long",
        Chance.BUSY: "the callback is being called at this moment; try again in a minute",
    }
    for chance, reason in why.items():
        if (count := estimate.counts.get(chance, 0)) and chance not in chances:
            typer.echo(f"{counted(count, 'request stays', 'requests stay')} discarded: {reason}.", err=True)


def _question(estimate: Estimate, chances: Sequence[Chance]) -> str:
    from carpool_worker.operations.retry import Chance

    count = estimate.count(chances)
    costs = [f"about {dollars(estimate.cost)}"]
    if estimate.unpriced:
        costs = [*costs[: count > estimate.unpriced], f"an unknown cost of {estimate.unpriced:,}"]
    parts = [f"Retry {counted(count, 'request')}, for {' and '.join(costs)}"]
    if Chance.PAID in chances and estimate.counts.get(Chance.PAID):
        parts.append(f"{estimate.counts[Chance.PAID]:,} of them may have been paid for already")
    if estimate.notified:
        parts.append(f"{counted(estimate.notified, 'callback knows', 'callbacks know')} of the failure")
    return "; ".join(parts) + "?"
