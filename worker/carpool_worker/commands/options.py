"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option(help="The folder for embedded servers, logs and secrets.")]
Latency = Annotated[float, typer.Option(min=0, help="Seconds that a simulated batch takes.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Tasks that the worker runs at once, a process each.")]
