"""Plans what `carpool up` runs on this machine: where each part is, and the environment that its programs get."""

from __future__ import annotations

import base64
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from carpool.callbacks import LOOPBACK as LOOPBACK_ONLY
from carpool_worker.claude.credentials import variable
from carpool_worker.exceptions import WorkerError
from carpool_worker.policies.keys import new_secret
from carpool_worker.processes.data_folder import EMBEDDED, read_env, secret, write_env
from carpool_worker.settings import read_settings

LOOPBACK = "127.0.0.1"
VALKEY_PORT = 6399
FLOWER_PORT = 5555
SIMULATOR_PORT = 8082
METRICS_PORT = 9465
GATEWAY_PORT = 8088
CONSOLE_PORT = 8089
"""Preferred ports; if one is taken, the next free one is used."""

PORTS_TRIED = 100
WEBHOOK_SECRET_BYTES = 32
"""Standard Webhooks 1.0.0 asks for 24 to 64 bytes."""

FLOWER_USER = "carpool"
SIMULATOR_KEY = "simulated"
"""The simulator accepts any key."""

GATEWAY_DRAIN = "5"
"""Seconds that calls at the gateway have when everything is stopped: their answers would take longer anyway."""

CONSOLE_ROLES = "look,act,reveal,admin"
"""Whoever can read the data folder may do everything anyway."""

GATEWAY_VARIABLES = ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY")
"""By which Anthropic's SDKs find the gateway; for Carpool itself they name the API."""

AT_ONCE: Mapping[str, str] = {
    "flush_interval": "2",
    "poll_interval": "1",
    "webhook_allowed_networks": "127.0.0.0/8,::1/128",
    "webhook_public": "false",
}
"""Settings, where nobody has set them, beside the simulator: answers come within seconds, webhooks go to this machine
and nowhere else."""

CHOOSABLE = {
    "redis_url": "CARPOOL_REDIS_URL",
    "database_url": "CARPOOL_DATABASE_URL",
    "webhook_secret": "CARPOOL_WEBHOOK_SECRET",
}
"""Settings that replace something embedded, and their environment variables."""


@dataclass(frozen=True)
class StackPlan:
    """Where everything of one `carpool up` is; a port is None if its program isn't needed."""

    data: Path
    redis_url: str
    key_prefix: str
    database_url: str
    valkey_port: int | None
    simulator_port: int | None
    flower_port: int
    metrics_port: int
    gateway_port: int
    gateway_secret: str
    console_port: int
    console_password: str
    console_secret: str
    flower_password: str
    webhook_secret: str
    embedded: frozenset[str]  # environment variables that this instance chose; the others were given
    at_once: Mapping[str, str]  # environment variables that make it quick; none with the real API

    @property
    def logs(self) -> Path:
        """The folder with a log file for each program."""
        return self.data / "logs"

    @property
    def flower_url(self) -> str:
        """Flower's address, user and password included."""
        return f"http://{FLOWER_USER}:{self.flower_password}@{LOOPBACK}:{self.flower_port}"

    @property
    def metrics_url(self) -> str:
        """The address that Prometheus scrapes."""
        return f"http://{LOOPBACK}:{self.metrics_port}/metrics"

    @property
    def gateway_url(self) -> str:
        """The base URL of programs that speak Anthropic's API."""
        return f"http://{LOOPBACK}:{self.gateway_port}"

    @property
    def console_link(self) -> str:
        """The console's address, which signs on by itself."""
        return f"http://{LOOPBACK}:{self.console_port}/enter?{urlencode({'with': self.console_password})}"

    @property
    def simulator_url(self) -> str | None:
        """The simulator's address; None if the real API is used."""
        return f"http://{LOOPBACK}:{self.simulator_port}" if self.simulator_port else None

    def for_services(self) -> dict[str, str]:
        """Return the environment variables that services on this machine need, and the addresses of what runs here."""
        found = {
            "CARPOOL_REDIS_URL": self.redis_url,
            "CARPOOL_KEY_PREFIX": self.key_prefix,
            "CARPOOL_DATABASE_URL": self.database_url,
            "CARPOOL_WEBHOOK_SECRET": self.webhook_secret,
            "CARPOOL_FLOWER_URL": self.flower_url,
            "CARPOOL_METRICS_URL": self.metrics_url,
            "CARPOOL_CONSOLE_URL": self.console_link,
            "CARPOOL_SIMULATOR_URL": self.simulator_url,
            "CARPOOL_ALLOW_HTTP": LOOPBACK_ONLY if self.simulator_url else None,
        }
        return {name: value for name, value in found.items() if value}

    def for_shells(self) -> dict[str, str]:
        """Return the same, and with which URL and key Anthropic's SDKs use the gateway."""
        found = zip(GATEWAY_VARIABLES, (self.gateway_url, self.gateway_secret), strict=True)
        return self.for_services() | dict(found)

    def for_programs(self) -> dict[str, str]:
        """Return the environment variables that the programs get in addition to this process's."""
        found = {
            **self.at_once,
            **self.for_services(),
            "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{self.flower_password}",
        }
        found |= _unset({"gateway_drain": GATEWAY_DRAIN, "console_roles": CONSOLE_ROLES})
        found["CARPOOL_CONSOLE_PASSWORD"] = self.console_password
        found |= _unset({"console_secret": self.console_secret})
        if self.simulator_url:
            found |= {"ANTHROPIC_BASE_URL": self.simulator_url, "ANTHROPIC_API_KEY": SIMULATOR_KEY}
        return found


def prepare(data: Path, *, any_port: bool) -> StackPlan:
    """Decide where everything goes, and create what is missing in the data folder."""
    (data / "logs").mkdir(parents=True, exist_ok=True)
    remembered = read_env(data, comment=EMBEDDED)
    given = _given(remembered)
    valkey_port = None if "CARPOOL_REDIS_URL" in given else free_port(VALKEY_PORT, any_port)
    simulator = variable() != "ANTHROPIC_API_KEY"
    gateway_port = free_port(GATEWAY_PORT, any_port)
    plan = StackPlan(
        data=data,
        redis_url=given.get("CARPOOL_REDIS_URL") or f"redis://{LOOPBACK}:{valkey_port}/0",
        key_prefix=read_settings().key_prefix,
        database_url=given.get("CARPOOL_DATABASE_URL") or f"sqlite:///{data}/carpool.db",
        valkey_port=valkey_port,
        simulator_port=free_port(SIMULATOR_PORT, any_port) if simulator else None,
        flower_port=free_port(FLOWER_PORT, any_port),
        metrics_port=free_port(METRICS_PORT, any_port),
        gateway_port=gateway_port,
        gateway_secret=secret(data / "gateway_key", new_secret),
        console_port=free_port(max(CONSOLE_PORT, gateway_port + 1), any_port),
        console_password=read_settings().console_password.get_secret_value()
        or secret(data / "console_password", lambda: secrets.token_urlsafe(24)),
        console_secret=secret(data / "console_secret", lambda: secrets.token_urlsafe(32)),
        flower_password=secret(data / "flower_password", lambda: secrets.token_urlsafe(18)),
        webhook_secret=given.get("CARPOOL_WEBHOOK_SECRET") or secret(data / "webhook_secret", webhook_secret),
        embedded=frozenset(CHOOSABLE.values()) - given.keys(),
        at_once=_unset(AT_ONCE) if simulator else {},
    )
    write_env(data, plan.for_shells(), plan.embedded)
    return plan


def _unset(wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of those settings that nobody has set."""
    given = read_settings().model_fields_set
    return {f"CARPOOL_{name.upper()}": value for name, value in wanted.items() if name not in given}


def _given(remembered: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that replace something embedded.

    A shell that sourced this folder's `env` file has them all set to what is embedded here; those don't count.
    """
    settings = read_settings()
    values = {
        "redis_url": settings.redis_url,
        "database_url": settings.database_url,
        "webhook_secret": ",".join(secret.get_secret_value() for secret in settings.webhook_secret),
    }
    chosen = {CHOOSABLE[name]: values[name] for name in CHOOSABLE if name in settings.model_fields_set}
    return {name: value for name, value in chosen.items() if value != remembered.get(name)}


def free_port(preferred: int, any_port: bool) -> int:
    """Return a free port of the loopback address: `preferred` or the next free one after it, or any at all.

    Raises:
        WorkerError: PORTS_TRIED ports in a row are taken.
    """
    for port in [0] if any_port else range(preferred, preferred + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise WorkerError(f"Ports {preferred} to {preferred + PORTS_TRIED - 1} are all taken.")


def webhook_secret() -> str:
    """Return a new secret for signing webhooks, in the form of Standard Webhooks 1.0.0."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(WEBHOOK_SECRET_BYTES)).decode()
