"""Options that several commands share, and who runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carpool_worker.commands.completion import (
    complete_batch,
    complete_client,
    complete_lane,
    complete_request,
)
from carpool_worker.commands.times import moment_of

Json = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]
JsonObject = Annotated[bool, typer.Option("--json", help="Print JSON, one object.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")]
Content = Annotated[
    bool, typer.Option("--content", help="Also show its prompt, its answer and its metadata.")
]

Limit = Annotated[int, typer.Option(min=1, help="How many to list at most.")]
Before = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="List the page before this one: those that are older.", show_default="now"
    ),
]
After = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="List the page after this one: those that are newer.", show_default=False
    ),
]
Since = Annotated[
    int | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        parser=moment_of,
        help="Only those since then: 90m, 12h, 3d or 2w ago, or a date (UTC).",
        show_default=False,
    ),
]

OfModel = Annotated[str | None, typer.Option("--model", help="Only those of this model.", show_default="all")]
OfClient = Annotated[
    str | None,
    typer.Option(
        "--client", help="Only those of this client.", show_default="all", autocompletion=complete_client
    ),
]
OfBatch = Annotated[
    str | None,
    typer.Option(
        "--batch", help="Only those in this batch.", show_default="all", autocompletion=complete_batch
    ),
]
OfLane = Annotated[
    str | None,
    typer.Option(
        "--lane", help="Only the batches of this lane.", show_default="all", autocompletion=complete_lane
    ),
]

BatchId = Annotated[
    str,
    typer.Argument(
        metavar="BATCH",
        help="The batch's id or Anthropic's (msgbatch_…), or the beginning of either.",
        autocompletion=complete_batch,
    ),
]
RequestId = Annotated[
    str,
    typer.Argument(
        metavar="REQUEST", help="The request's id, or its beginning.", autocompletion=complete_request
    ),
]
RequestIds = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="REQUEST",
        help="The ids of requests, or their beginnings.",
        show_default=False,
        autocompletion=complete_request,
    ),
]
ClientName = Annotated[
    str,
    typer.Argument(
        metavar="CLIENT", help="The client, as its producer names it.", autocompletion=complete_client
    ),
]
Lanes = Annotated[
    list[str],
    typer.Argument(
        metavar="LANE", help="Lanes, as `carpool lanes` names them.", autocompletion=complete_lane
    ),
]

Address = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0 is any free one.")
]
Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
TlsCertificate = Annotated[
    Path | None,
    typer.Option("--tls-certificate", help="The certificate of TLS and its chain, PEM.", show_default=False),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", help="Its private key, PEM.", show_default="in the certificate's file"),
]
BehindProxy = Annotated[
    bool, typer.Option("--behind-proxy", help="TLS ends at a proxy, which alone can reach this address.")
]
Data = Annotated[Path, typer.Option(help="The folder for embedded servers, logs and secrets.")]
Latency = Annotated[float, typer.Option(min=0, help="Seconds that a simulated batch takes.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Tasks that the worker runs at once, a process each.")]


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `--yes` was given; raises typer.Abort at a no."""
    if not yes:
        typer.confirm(question, abort=True)


def actor() -> str:
    """Return who runs this command, for the log of what operators do: `cli:` and the user's name."""
    from getpass import getuser

    try:
        return f"cli:{getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return "cli"
