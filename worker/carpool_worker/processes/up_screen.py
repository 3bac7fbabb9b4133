"""What `carpool up` shows: where its parts are, how to try it, and a line of what moves."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live
from rich.text import Text

from carpool_worker.processes.local_stack import (
    CONSOLE_PORT,
    FLOWER_PORT,
    GATEWAY_PORT,
    METRICS_PORT,
    SIMULATOR_PORT,
    VALKEY_PORT,
    StackPlan,
)

READY = "Ready."
"""Printed once the worker answers."""

SNIPPET = """from carpool import Producer
producer = Producer()
print(producer.wait(producer.enqueue({"model": "claude-haiku-4-5", "max_tokens": 64, \
"messages": [{"role": "user", "content": "Hello, Claude"}]})).text)"""
"""Three lines that a reader can paste into `python` in the same folder."""

console = Console(soft_wrap=True, highlight=False)


def print_addresses(plan: StackPlan, base_url: str | None) -> None:
    """Print where each part is; `base_url` is what ANTHROPIC_BASE_URL says."""
    places = {
        "Console": plan.console_link,
        "Redis": f"{_hidden(plan.redis_url)}{'  (embedded Valkey)' if plan.valkey_port else ''}",
        "Database": _hidden(plan.database_url),
        "Claude": _claude(plan, base_url),
        "Gateway": f"{plan.gateway_url}  (Anthropic's API, at half price)",
        "Flower": plan.flower_url,
        "Metrics": f"{plan.metrics_url}  (for Prometheus)",
        "Logs": str(plan.logs),
        "Services": f"a Producer() in this folder finds it; elsewhere, and for programs that use "
        f"Anthropic's API: source {shlex.quote(str(plan.data / 'env'))}",
    }
    if plan.simulator_url:
        places["Webhooks"] = "to this machine only, http too; copies: carpool listen --forward-to URL"
    console.print("[bold]Carpool[/bold] is starting. Ctrl-C stops it.")
    for name, place in places.items():
        console.print(f"  {name:<9} {place}", markup=False)


def print_faults(plan: StackPlan, faults: Sequence[str]) -> None:
    """Print what is practised, and how to end it."""
    if faults:
        console.print(
            f"  Practised {', '.join(faults)}; until: curl -X DELETE {plan.simulator_url}/simulator/faults",
            markup=False,
        )


def print_changed_ports(plan: StackPlan) -> None:
    """Print which ports were taken."""
    taken = {
        "The gateway": (GATEWAY_PORT, plan.gateway_port),
        "The console": (CONSOLE_PORT, plan.console_port),
        "Flower": (FLOWER_PORT, plan.flower_port),
        "Metrics": (METRICS_PORT, plan.metrics_port),
        "The simulator": (SIMULATOR_PORT, plan.simulator_port),
        "Valkey": (VALKEY_PORT, plan.valkey_port),
    }
    for name, (preferred, port) in taken.items():
        if port not in (None, preferred):
            console.print(f"  Port {preferred} is taken; {name} is on {port}.")


def print_ready() -> None:
    """Print that it is ready, and what to paste into Python to see it work."""
    console.print(READY)
    console.print(f"Try it, in `{_python()}` in this folder:")
    console.print(SNIPPET, markup=False)


class LiveLine:
    """A line at the bottom of a terminal that is drawn again and again; nothing anywhere else."""

    def __init__(self, read: Callable[[], object]) -> None:
        self._read = read
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def refresh(self) -> None:
        """Draw the line anew; what it is about may be away for a moment."""
        if not self._live:
            return
        with suppress(Exception):
            line = Text(f"  {self._read()}", style="bold", overflow="ellipsis", no_wrap=True)
            self._live.start()
            self._live.update(line, refresh=True)


def is_on_this_machine(url: str) -> bool:
    """Return whether a URL's host is a loopback address, or a name of one."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _python() -> str:
    """Return how the interpreter that has Carpool is called from this folder."""
    if shutil.which("python") == sys.executable:
        return "python"
    own = Path(sys.executable)
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def _claude(plan: StackPlan, base_url: str | None) -> str:
    if plan.simulator_url:
        return f"{plan.simulator_url}  (simulator: free, answers within seconds)"
    if base_url and is_on_this_machine(base_url):
        return f"{base_url}  (on this machine, by ANTHROPIC_BASE_URL)"
    return f"{base_url or 'the real API'}: batches cost money"


def _hidden(url: str) -> str:
    """Return a URL without its password; options, which may have one, are left out."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{parts.scheme}://{user}{':***' if colon else ''}{at}{hosts}{parts.path}"
