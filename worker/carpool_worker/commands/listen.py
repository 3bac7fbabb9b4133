"""`carpool listen` and `carpool trigger`: webhooks at a developer's own address."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from carpool_worker.exceptions import WorkerError

if TYPE_CHECKING:
    from carpool_worker.operations.copies import Forwarded

LOOK_SECONDS = 0.5

EVENTS = ("request.completed", "request.discarded", "request.canceled", "batch.ended")
"""As operations/copies.py has them, which takes long to import."""


def receiver(url: str) -> str:
    """Return the URL of a receiver as it is; raises typer.BadParameter."""
    if not re.fullmatch(r"https?://[^\s/?#@]+([/?][^\s#]*)?", url):
        raise typer.BadParameter("must be a URL such as http://localhost:3000/hook")
    return url


def event_type(name: str) -> str:
    """Return the type of a delivery as it is; raises typer.BadParameter."""
    if name not in EVENTS:
        raise typer.BadParameter(f"there is no {name!r}; there are {', '.join(EVENTS)}")
    return name


ForwardTo = Annotated[
    str, typer.Option("--forward-to", metavar="URL", parser=receiver, help="Where they go: http or https.")
]


def listen(forward_to: ForwardTo) -> None:
    """Send a copy of each delivery that is made meanwhile to a URL, until Ctrl-C.

    The copies are signed as the deliveries are, with CARPOOL_WEBHOOK_SECRET or the client's own secret, and go to URL
    whatever callback the requests have: webhook or task. Nothing is diverted: the callbacks get their own. A copy is
    tried once, and none is kept while this is off. Example:

        carpool listen --forward-to http://localhost:3000/hook
    """
    from carpool_worker.database import engine
    from carpool_worker.operations import copies
    from carpool_worker.processes.preflight import check_tables

    check_tables()
    made, secrets = copies.Copies(engine()), copies.secrets(engine(), _general())
    typer.echo(f"Copies of deliveries go to {forward_to} (Ctrl-C ends it).")
    try:
        while True:
            for letter in made.take():
                _print(copies.forward(letter, forward_to, secrets.of(letter.client)))
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return


def trigger(
    forward_to: ForwardTo,
    event: Annotated[
        str,
        typer.Argument(metavar="[EVENT]", parser=event_type, help=f"One of {', '.join(EVENTS)}."),
    ] = "request.completed",
    client: Annotated[str, typer.Option(help="The client whose request it would be.")] = "default",
    metadata: Annotated[
        str | None, typer.Option(help="The request's metadata, as JSON.", show_default=False)
    ] = None,
) -> None:
    """Send a sample delivery to a URL, signed like a real one; the exit code is 1 unless it is accepted.

    Nothing is enqueued, and no table knows of it. Without CARPOOL_WEBHOOK_SECRET it takes that of the `carpool up` that
    runs in this folder. Examples:

        carpool trigger --forward-to http://localhost:3000/hook
        carpool trigger request.discarded --forward-to http://localhost:3000/hook --metadata '{"invoice": 42}'
    """
    from carpool_worker.operations import copies

    letter = copies.sample(event, client, copies.parse_metadata(metadata))
    done = copies.forward(letter, forward_to, _general())
    _print(done)
    if not done.is_accepted:
        raise typer.Exit(1)


def _general() -> Sequence[str]:
    from carpool_worker.settings import settings

    found = [secret.get_secret_value() for secret in settings().webhook_secret]
    if not found:
        raise WorkerError(
            "There is no secret to sign with: set CARPOOL_WEBHOOK_SECRET, or start `carpool up` in this folder."
        )
    return found


def _print(done: Forwarded) -> None:
    outcome = done.error or f"{done.status}"
    mark = "->" if done.is_accepted else "-> NOT ACCEPTED:"
    typer.echo(
        f"{time.strftime('%H:%M:%S')}  {done.type}  {done.id}  {mark} {outcome}  ({done.milliseconds} ms)"
    )
