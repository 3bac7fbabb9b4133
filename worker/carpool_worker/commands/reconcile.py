"""`carpool reconcile`: Anthropic's list of the last days against the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from carpool_worker.commands.options import JsonObject, Since
from carpool_worker.commands.tables import print_json_object
from carpool_worker.formatting import counted

if TYPE_CHECKING:
    from carpool_worker.operations.reconcile import Audit, AuditedList, ForeignBatch

TROUBLED = 1
"""The exit code where something ran twice, or a list proves nothing."""


def reconcile(since: Since = None, as_json: JsonObject = False) -> None:
    """Compare Anthropic's list of batches with the tables, and name what ran twice; a worker does it each hour.

    It reads the lists of all accounts and keys back to --since (by default audit_days ago), and the results of ended
    batches that no table knows. It changes nothing at Anthropic. A batch that ran requests which are still to be
    posted, as after a restored backup, is adopted: its answers are collected, and they are not posted again. All else
    that it finds is only noted, for `carpool status` and the metrics. Whose a batch is that has not ended can't be
    known yet. It exits with 1 if requests ran twice, or if a list can't be read or shows none of our batches. Examples:

        carpool reconcile
        carpool reconcile --since 7d --json | jq .findings
    """
    from carpool_worker.commands.progress import progress_bar
    from carpool_worker.database import engine, now
    from carpool_worker.operations import reconcile as operation
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.units import DAY, Milliseconds

    check_tables()
    start = Milliseconds(now() - round(settings().audit_days * DAY) if since is None else since)
    with progress_bar() as bar:
        task = bar.add_task("comparing", total=operation.count_posted(engine(), start) or None)
        found = operation.reconcile(engine(), settings(), start, lambda count: bar.advance(task, count))
    if as_json:
        print_json_object(
            {
                "places": found.places,
                "counts": {verdict.value: count for verdict, count in found.counts.items()},
                "findings": [one._asdict() for one in found.findings],
            }
        )
    else:
        for line in _lines(found):
            typer.echo(line)
    if not found.is_clean:
        raise typer.Exit(TROUBLED)


def _lines(found: Audit) -> Iterator[str]:
    from carpool_worker.operations.reconcile import Whose

    yield from map(_of_place, found.places)
    yield from map(_of_finding, found.findings)
    left_out = sum(found.counts.values()) - found.counts[Whose.STRANGE] - len(found.findings)
    if left_out:
        yield f"and {left_out:,} more"
    others = counted(found.counts[Whose.STRANGE], "batch is", "batches are")
    yield f"{others} another program's."
    if unread := found.counts[Whose.UNREAD]:
        whose = counted(unread, "batch", "batches")
        yield f"Whose {whose} without an owner here may be can't be known yet: compare again once they have ended."
    if found.is_clean:
        yield "Nothing is known to have run twice."


def _of_place(place: AuditedList) -> str:
    from carpool_worker.policies.accounts import shown

    where = f"account {shown(place.account)}" + (f", workspace {place.workspace}" if place.workspace else "")
    if place.error:
        return f"{where}: the list can't be read: {place.error}"
    listed = counted(place.listed, "batch", "batches")
    if place.is_blind:
        return f"{where}: {listed} listed, none of our {place.posted:,}: is the key of another workspace?"
    return f"{where}: {listed} listed, {place.known:,} of them ours"


def _of_finding(one: ForeignBatch) -> str:
    answered = counted(one.answered, "request")
    why = f" ({one.why})" if one.why else ""
    return {
        "twice": f"{one.claude_id} ran {answered} of batch {one.batch_id} besides that batch{why}",
        "adopted": f"{one.claude_id} ran {answered} that no table knew as posted: adopted, as batch {one.batch_id}",
        "nameless": f"{one.claude_id} has requests named as Carpool names them, and no table knows them: another"
        " Carpool's, or lost rows",
        "unread": f"{one.claude_id} is in no table{why}",
    }[one.verdict]
