"""`carpool keys`: the keys with which clients come to the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from carpool_worker.commands.key_options import (
    CallbackHosts,
    Day,
    Deadline,
    DeadlinePolicy,
    Expires,
    ExpiresAfter,
    Grace,
    HighestPriority,
    IfAbsent,
    KeyName,
    LowestPriority,
    Models,
    Month,
    MostHeld,
    MostQueued,
    Name,
    OverBudget,
    RequestsAMinute,
    Revoked,
    Scopes,
    Workspaces,
    parts_of,
    seconds_of,
)
from carpool_worker.commands.options import ClientName, Json, JsonObject, OfClient, Yes, actor, confirm
from carpool_worker.commands.tables import print_json, print_json_object, print_table, time_or_absent

if TYPE_CHECKING:
    from carpool_worker.operations.keys import NewSecret
    from carpool_worker.views.keys import KeyView

app = typer.Typer(rich_markup_mode="markdown", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """Create, list, show, rotate and revoke the keys with which clients come to the gateway.

    A key belongs to one client, which is the tenant: it sees that client's requests and batches alone. Of its secret
    only a hash is stored, so the secret is shown once, when it is made. Usage is counted by key: `carpool usage --by
    key`.
    """


@app.command()
def create(
    client: ClientName,
    name: Name = None,
    scopes: Scopes = None,
    models: Models = None,
    requests_a_minute: RequestsAMinute = None,
    most_queued: MostQueued = None,
    most_held: MostHeld = None,
    day: Day = None,
    month: Month = None,
    over: OverBudget = "refuse",
    lowest_priority: LowestPriority = -100,
    highest_priority: HighestPriority = 100,
    callback_hosts: CallbackHosts = None,
    workspaces: Workspaces = False,
    deadline: Deadline = None,
    deadline_policy: DeadlinePolicy = None,
    expires: Expires = None,
    expires_after: ExpiresAfter = None,
    if_absent: IfAbsent = False,
    as_json: JsonObject = False,
) -> None:
    """Create a key of a client, and print its secret, this once.

    Its name is the client's unless it has another; names are given once, as usage has them. Without options it may send
    requests and batches for every model, without a limit, and never expires. Examples:

        carpool keys create billing
        carpool keys create billing --name billing-nightly --model 'claude-haiku-*' --day 5 --month 100
        carpool keys create search --scope messages,callbacks --callback-host '*.example.com' --expires 90d
        export ANTHROPIC_API_KEY=$(carpool keys create notebooks --json | jq -r .secret)
    """
    from carpool_worker.database import engine
    from carpool_worker.operations import keys as operation
    from carpool_worker.processes.preflight import check_tables

    given: dict[str, Any] = {
        "client": client,
        "name": name or client,
        "scopes": parts_of(scopes) if scopes else None,
        "models": models,
        "requests_a_minute": requests_a_minute,
        "most_queued": most_queued,
        "most_held": most_held,
        "day": day,
        "month": month,
        "over": over,
        "lowest_priority": lowest_priority,
        "highest_priority": highest_priority,
        "callback_hosts": callback_hosts,
        "workspaces": workspaces,
        "deadline": None if deadline is None else round(seconds_of("--deadline", deadline) or 0),
        "deadline_policy": deadline_policy,
        "expires_at": expires,
        "expires_after": seconds_of("--expires-after", expires_after),
    }
    check_tables()
    stated = {field: value for field, value in given.items() if value is not None}
    _print_secret(operation.create(engine(), stated, if_absent=if_absent, actor=actor()), as_json)


@app.command("list")
def list_(client: OfClient = None, revoked: Revoked = False, as_json: Json = False) -> None:
    """List the keys, the oldest first.

    Of each secret only the first characters are known. When a key was used last is written once a minute at most.
    Examples:

        carpool keys list
        carpool keys list --client billing --revoked
        carpool keys list --json | jq 'select(.last_used_at == null) | .name'
    """
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views.keys import all_keys

    check_tables()
    with read() as connection:
        found = all_keys(connection, client, revoked=revoked)
    if as_json:
        print_json(found)
    elif found:
        columns = ("Secret", "State", "Last used", "Name, client and scopes")
        print_table(columns, [_line(one) for one in found])
    else:
        typer.echo("No key yet: carpool keys create CLIENT makes one.")


@app.command()
def show(key: KeyName, as_json: JsonObject = False) -> None:
    """Show one key: what its holder may do, and when it was used."""
    from carpool_worker.database import read
    from carpool_worker.operations import keys as operation
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.views.keys import key_view

    check_tables()
    with read() as connection:
        found = key_view(operation.find(connection, key))
    if as_json:
        print_json_object(found)
    else:
        _show(found)


@app.command()
def rotate(key: KeyName, grace: Grace = "1d", as_json: JsonObject = False) -> None:
    """Give a key a new secret, and print it, this once; the one before stays valid for the grace time.

    Its name, limits, budget and usage stay. Whoever has the old secret has until then to take the new one; with a grace
    time of 0s it ends at once, as it should where a secret is known to others. Examples:

        carpool keys rotate billing
        carpool keys rotate billing --grace 0s
    """
    from carpool_worker.database import engine
    from carpool_worker.operations import keys as operation
    from carpool_worker.processes.preflight import check_tables

    seconds = seconds_of("--grace", grace)
    check_tables()
    _print_secret(operation.rotate(engine(), key, seconds or 0.0, actor=actor()), as_json)


@app.command()
def revoke(key: KeyName, yes: Yes = False) -> None:
    """Revoke a key for good: every gateway refuses it within 5 seconds.

    What it has enqueued stays, and ends as it would have. Its name is not given again, as usage has it. Where only the
    secret is known to others, `carpool keys rotate KEY --grace 0s` keeps the key. Example:

        carpool keys revoke billing
    """
    from carpool_worker.database import engine
    from carpool_worker.operations import keys as operation
    from carpool_worker.processes.preflight import check_tables

    check_tables()
    confirm(f"Revoke the key {key} for good?", yes)
    was_valid = operation.revoke(engine(), key, actor=actor())
    typer.echo(f"Revoked: {key}" if was_valid else f"It was revoked before: {key}")


def _print_secret(new: NewSecret, as_json: bool) -> None:
    from carpool_worker.views.encoding import plain
    from carpool_worker.views.keys import key_view

    view = key_view(new.key)
    if as_json:
        print_json_object(plain(view) | {"secret": new.secret, "begins": view.secret})
    elif new.secret is None:
        typer.echo(f"The key {view.name} is there already; its secret was shown when it was made.", err=True)
    else:
        typer.echo(f"The secret of the key {view.name}, shown only now:", err=True)
        typer.echo(new.secret)


def _line(view: KeyView) -> list[str]:
    used = time_or_absent(view.last_used_at)
    who = view.name if view.name == view.client else f"{view.name} of {view.client}"
    return [view.secret, view.state, used, f"{who}: {', '.join(view.scopes)}"]


def _show(view: KeyView) -> None:
    from carpool_worker.views.encoding import plain

    for name, value in plain(view).items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if shown not in (None, ""):
            typer.echo(f"{name.replace('_', ' ')}: {str(shown).lower() if shown in (True, False) else shown}")
