"""Flower as `carpool flower` runs it: set up for batches, and never open to other machines without a password."""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import Any

from flower.command import apply_env_options
from flower.options import default_options as options
from tornado.web import TemplateModule

from carpool_worker.app import app
from carpool_worker.exceptions import WorkerError
from carpool_worker.flower.rows import NAME
from flower import urls

CONFIG = Path("config/flower.py")

LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")

DEFAULTS: dict[str, Any] = {
    "tasks_columns": "name,state,args,result,received,runtime,uuid",
    "natural_time": True,
    "read_only": True,
    "max_tasks": 20_000,
    "persistent": False,
    "purge_offline_workers": 300,
    "task_runtime_metric_buckets": [
        *(30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 2_700.0),
        *(3_600.0, 7_200.0, 14_400.0, 28_800.0, 43_200.0, 57_600.0, 72_000.0, 86_400.0),
    ],
}
"""Flower's options for batches; config/flower.py explains each. That file and the environment override them."""

STYLE = """
.tasks-table > :not(caption) > * > * { padding-inline: 0.625rem }
.tasks-table td > a { white-space: nowrap }
.tasks-table td.overflow-auto { max-width: 32rem; white-space: normal !important; overflow-wrap: anywhere }
.task-uuid-full { display: inline-block; max-width: 8rem; overflow: hidden; text-overflow: ellipsis }
.task-uuid-full { vertical-align: bottom }
@media (max-width: 767.98px) { .task-uuid-full { display: none } }
@media (min-width: 1700px) { .task-uuid-full { max-width: none } }
"""
"""With it names, counts and costs fit a window of 1,400 pixels, where Flower alone breaks names and cuts results at 400
pixels. Who copies a shortened id gets all of it."""


class StyledTemplate(TemplateModule):
    """Flower's pages, with a style of our own after theirs: Tornado's way to add one to a page."""

    def embedded_css(self) -> str:
        """Return the style."""
        return "\n".join(filter(None, (super().embedded_css(), STYLE)))


def prepare(address: str) -> None:
    """Set Flower's options: the defaults for batches, overridden by the environment, then by config/flower.py.

    Raises:
        WorkerError: other machines could reach it without a password.
    """
    for name, value in {**DEFAULTS, "format_task": timed}.items():
        setattr(options, name, value)
    urls.settings["ui_modules"] = {"Template": StyledTemplate}
    apply_env_options()
    if CONFIG.is_file():
        options.parse_config_file(str(CONFIG.resolve()), final=False)
    if address not in LOOPBACK_HOSTS and not (options.basic_auth or options.auth):
        raise WorkerError(f"Flower on {address} needs a password: set FLOWER_BASIC_AUTH=user:password")


def run(address: str, port: int) -> None:
    """Run Flower until SIGTERM or SIGINT."""
    config = [f"--conf={CONFIG}"] if CONFIG.is_file() else []
    app.start(["flower", f"--address={address}", f"--port={port}", *config])


def timed(task: Any) -> Any:
    """Give a batch's row a runtime where its event had none: how long Anthropic took, or has taken so far."""
    if task.runtime is None and task.started and (task.name or "").startswith(NAME):
        ended = task.succeeded or task.failed or time()
        task.runtime = max(0.0, ended - task.started)
    return task
