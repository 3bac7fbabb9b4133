"""Examines the settings: where they come from, variables that nothing reads, values that are allowed but dangerous."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path

from carpool_worker.doctor.findings import Finding, ok, warning, wrong
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.formatting import counted
from carpool_worker.setting_files import config_path
from carpool_worker.settings import Settings, read_settings

CHECK = "settings"
PREFIX = "CARPOOL_"

OTHERS_READ = frozenset(
    {"CONFIG", "CLIENT", "ALLOW_HTTP", "FLOWER_URL", "METRICS_URL", "CONSOLE_URL", "SIMULATOR_URL", "URL"}
)
"""Variables that are not settings of the worker: they name its file, or are for services."""

SHORT_SETTLE = 30.0
"""Seconds: a batch whose post went unanswered can appear in Anthropic's list seconds later."""

SHORT_FLUSH = 1.0
"""Seconds: below it, most batches have a request or two, and each takes several calls of the rate limit."""

SHORT_RETENTION = 1.0
"""Days: an answer that nobody has fetched by then is deleted."""

LINK_LOCAL = ip_network("169.254.0.0/16")
"""Cloud machines serve their credentials there (RFC 3927)."""

OTHERS = 0o077
"""The bits of a file's mode that give its group and everyone else access."""

SECRETS = ("webhook_secret", "redis_url", "database_url")


def examine_settings() -> tuple[list[Finding], Settings | None]:
    """Return the findings, and the settings if they can be read."""
    try:
        settings, path = read_settings(), config_path()
    except SettingsInvalid as error:
        return [wrong(CHECK, str(error), "correct it; config/carpool.toml explains each setting")], None
    found = [*unknown_variables(os.environ), *_dangerous(settings), *_open_file(path)]
    set_here = sum(name.upper().startswith(PREFIX) for name in os.environ)
    source = f"from {path}" if path else "no file, the defaults"
    return [ok(CHECK, f"{source}; {counted(set_here, 'environment variable')}"), *found], settings


def unknown_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Judge the variables whose names begin as ours do: warn of those that nothing reads."""
    known = {name.upper() for name in Settings.model_fields} | OTHERS_READ
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX)
        if variable.upper().startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"is {PREFIX}{near[0]} meant?" if near else "remove it"
            yield warning(CHECK, f"nothing reads {variable}", meant)


def _dangerous(settings: Settings) -> Iterator[Finding]:
    if settings.settle_interval < SHORT_SETTLE:
        what = f"settle_interval is {settings.settle_interval:g} s: a batch that shows up later is paid for twice"
        yield warning(CHECK, what, f"set it to {SHORT_SETTLE:g} or more; 120 is the default")
    if settings.flush_interval < SHORT_FLUSH:
        what = f"flush_interval is {settings.flush_interval:g} s: batches of a request or two"
        yield warning(CHECK, what, "set it to some seconds at least; 60 is the default")
    if settings.answers_retention_days < SHORT_RETENTION:
        what = (
            f"answers_retention_days is {settings.answers_retention_days:g}: unread answers are soon deleted"
        )
        yield warning(CHECK, what, f"set it to {SHORT_RETENTION:g} or more; 29 is the default")
    for network in settings.webhook_allowed_networks:
        reaches_all = network.prefixlen == 0
        if reaches_all or (network.version == LINK_LOCAL.version and network.overlaps(LINK_LOCAL)):
            what = (
                f"webhook_allowed_networks has {network}: any client can reach the machine's own credentials"
            )
            yield wrong(CHECK, what, "list only the receivers' networks")


def _open_file(path: Path | None) -> Iterator[Finding]:
    if path is None or not path.stat().st_mode & OTHERS:
        return
    with path.open("rb") as file:
        values = tomllib.load(file)
    if any(_is_secret(name, str(values.get(name, ""))) for name in SECRETS):
        what = f"{path} holds a secret, and others on this machine can read it"
        yield warning(CHECK, what, f"chmod 600 {path}, or keep secrets in the environment")


def _is_secret(name: str, value: str) -> bool:
    return bool(value) if name == "webhook_secret" else "@" in value
