"""`carpool config`: writes the files that operators start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carpool_worker.commands.options import Json
from carpool_worker.commands.tables import print_json

Parts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PART",
        help="carpool.toml, redis.conf, redis, flower.py, prometheus, grafana, kubernetes or systemd.",
        show_default="all",
    ),
]
Folder = Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where to write them.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]


def config(
    parts: Parts = None, folder: Folder = Path("config"), force: Force = False, as_json: Json = False
) -> None:
    """Write the files that operators start from into a folder.

    These are every setting with its default and an explanation (carpool.toml), Redis' configuration and the users of
    an ACL for it (redis), Flower's options, Prometheus' rules, Grafana's dashboard, manifests for Kubernetes, and
    systemd's units. Nothing is overwritten unless --force is given. Examples:

        carpool config
        carpool config redis.conf prometheus --to /etc/carpool
    """
    from carpool_worker.operations.configuration import PARTS, write_config

    written = write_config(folder, parts or PARTS, replace=force)
    if as_json:
        print_json(written)
        return
    for one in written:
        typer.echo(f"{one.state:<10}{one.path}")
