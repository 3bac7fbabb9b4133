"""`carpool clients`: the services that enqueue requests, what each has waiting and what it has used."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import typer

from carpool_worker.commands.key_options import Grace, seconds_of
from carpool_worker.commands.options import ClientName, Json, JsonObject, Since, actor
from carpool_worker.commands.tables import ABSENT, print_json, print_json_object, print_table, time_or_absent

if TYPE_CHECKING:
    from carpool_worker.views.clients import ClientDetails, ClientView

app = typer.Typer(rich_markup_mode="markdown")


@app.callback(invoke_without_command=True)
def clients(context: typer.Context, since: Since = None, as_json: Json = False) -> None:
    """List the clients: what each has waiting, and what it has used; most expensive last.

    A client is the service that a producer names: Producer(client="billing"). Held are those of its waiting requests
    that have no room in its budget (the setting `budgets`); quota is how many may wait (the setting `quotas`). While
    Anthropic has not room for all, clients take turns by weight (the setting `client_weights`): turn 1 goes next, and
    the share is what a client gets of the room. Answers are counted by whole days (UTC). Examples:

        carpool clients
        carpool clients --since 7d --json | jq 'select(.waiting > 10000) | .client'
        carpool clients show billing
    """
    if context.invoked_subcommand:
        return
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.views.clients import active

    check_tables()
    with read() as connection:
        found = active(connection, settings(), since)
    if as_json:
        print_json(found)
    elif found:
        _show_table(found)
    else:
        typer.echo("No client yet.")


@app.command()
def show(client: ClientName, since: Since = None, as_json: JsonObject = False) -> None:
    """Show where one client's requests wait, its quota and budget, what it used of each model, and its dead letters."""
    from carpool_worker.database import read
    from carpool_worker.processes.preflight import check_tables
    from carpool_worker.settings import settings
    from carpool_worker.views.clients import find

    check_tables()
    with read() as connection:
        found = find(connection, settings(), client, since)
    if as_json:
        print_json_object(found)
    else:
        _show_details(found)


@app.command("rotate-secret")
def rotate_secret(client: ClientName, grace: Grace = "1d", as_json: JsonObject = False) -> None:
    """Give a client a new secret that its webhooks are signed with, and print it, this once.

    A client without one has the general secret (the setting `webhook_secret`), which all such clients know: any of them
    could forge another's webhooks. For the grace time the secret before signs as well, the general one or its own: each
    webhook then has both signatures, and is verified with either. Examples:

        carpool clients rotate-secret billing
        carpool clients rotate-secret billing --grace 7d --json | jq -r .secret
    """
    from carpool_worker.database import engine
    from carpool_worker.operations import webhook_secrets
    from carpool_worker.processes.preflight import check_tables

    seconds = seconds_of("--grace", grace) or 0.0
    check_tables()
    secret = webhook_secrets.rotate(engine(), client, seconds, actor=actor())
    if as_json:
        print_json_object({"client": client, "secret": secret, "grace": seconds})
    else:
        typer.echo(f"The secret of {client}'s webhooks, shown only now:", err=True)
        typer.echo(secret)


@app.command("drop-secret")
def drop_secret(client: ClientName, grace: Grace = "1d") -> None:
    """Sign a client's webhooks with the general secret again.

    For the grace time its own secret signs as well. A client that has none of its own stays as it is. Example:

        carpool clients drop-secret billing
    """
    from carpool_worker.database import engine
    from carpool_worker.operations import webhook_secrets
    from carpool_worker.processes.preflight import check_tables

    seconds = seconds_of("--grace", grace) or 0.0
    check_tables()
    had_one = webhook_secrets.drop(engine(), client, seconds, actor=actor())
    typer.echo(f"Dropped: the secret of {client}" if had_one else f"It has none of its own: {client}")


def _show_table(found: Sequence[ClientView]) -> None:
    any_held, any_turn = any(one.held for one in found), any(one.turn for one in found)
    any_quota = any(one.quota_requests or one.quota_bytes for one in found)
    names = {"Quota": any_quota, "Held": any_held, "Turn": any_turn, "Share": any_turn}
    optional = [name for name, is_shown in names.items() if is_shown]
    columns = ("Waiting", *optional, "Answered", "Cost", "Saved", "Client")
    lines = []
    for one in found:
        quota = [_quota(one)] if any_quota else []
        held = [f"{one.held:,}"] if any_held else []
        turn = [ABSENT if one.turn is None else f"{one.turn:,}", _percent(one.share)] if any_turn else []
        counts = [f"{one.waiting:,}", *quota, *held, *turn, f"{one.answered:,}"]
        lines.append([*counts, _money(one.cost), _money(one.saved), one.client])
    print_table(columns, lines)


def _show_details(client: ClientDetails) -> None:
    where = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in client.waiting.items())
    typer.echo(f"{client.client}\nwaiting: {where or 'nothing'}\ndead letters: {client.dead_letters:,}")
    if client.quota:
        typer.echo(f"quota: {client.quota}")
    if client.budget:
        typer.echo(f"budget: {client.budget}")
    for turn in client.turns:
        of_room = f"{_percent(turn.share)} of the room of account {turn.account} (weight {turn.weight:g})"
        typer.echo(f"turn: {turn.place:,}, {of_room}, next with batch {turn.next_batch}")
    if client.secret_since:
        typer.echo(f"webhooks: signed with a secret of its own since {time_or_absent(client.secret_since)}")
    if client.models:
        lines = [
            [f"{one.answered:,}", _money(one.cost), _money(one.saved), one.model] for one in client.models
        ]
        print_table(("Answered", "Cost", "Saved", "Model"), lines)


def _quota(client: ClientView) -> str:
    from carpool_worker.formatting import size

    parts = [f"{client.quota_requests:,}"] if client.quota_requests else []
    parts += [size(client.quota_bytes)] if client.quota_bytes else []
    return ", ".join(parts) or ABSENT


def _percent(share: float | None) -> str:
    return ABSENT if share is None else f"{share:.0%}"


def _money(amount: Decimal | None) -> str:
    from carpool_worker.formatting import dollars

    return ABSENT if amount is None else dollars(amount)
