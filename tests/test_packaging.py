"""What operators are given, the settings file and compose.yaml, is correct."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from carpool_worker.settings import Settings, read_settings

PROJECT = Path(__file__).parents[1]
CONFIG = (PROJECT / "config" / "carpool.toml").read_text()
COMPOSE = PROJECT / "compose.yaml"
SETTING = re.compile(r"^# (?=[a-z_]+ = )", flags=re.M)
"""A default, commented out."""


def test_the_settings_file_has_every_setting_with_its_default() -> None:
    # Given the file with every # taken away from its defaults
    listed = tomllib.loads(SETTING.sub("", CONFIG))

    # Then it lists all settings there are, in their order, with the values they have without it
    defaults = Settings.model_construct().model_dump(mode="json")
    assert list(listed) == list(Settings.model_fields)
    assert listed == defaults


def test_the_settings_file_explains_every_setting() -> None:
    # Then each block of defaults has a text of its own above it
    blocks = [block for block in CONFIG.split("\n\n") if SETTING.search(block)]
    assert blocks
    assert all(not SETTING.match(block) for block in blocks)


def test_the_settings_file_changes_nothing_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the file as it is handed out
    monkeypatch.setenv("CARPOOL_CONFIG", str(PROJECT / "config" / "carpool.toml"))

    # Then no setting counts as given, so that `carpool up` brings its own servers
    assert read_settings().model_fields_set == set()


def test_compose_yaml_follows_the_compose_specification() -> None:
    # The schema is the specification's own, as check-jsonschema ships it
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(COMPOSE),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def services() -> dict[str, dict[str, Any]]:
    """Return compose.yaml's services."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_compose_has_a_service_for_each_agents_queue() -> None:
    from carpool_worker.coordination.keys import AGENTS, queue

    for agent in AGENTS:
        command = services()[agent]["command"]
        assert command[:3] == ["worker", "--queues", queue(agent)]


def test_compose_contains_no_secret_and_starts_nothing_before_the_tables_exist() -> None:
    for name, service in services().items():
        # Every secret comes from outside, with a word on what is missing
        for variable, value in service.get("environment", {}).items():
            if re.search("KEY|PASSWORD|SECRET|AUTH", variable):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", value), variable
        # All but the servers wait for the migrations
        if name not in ("redis", "postgres", "migrate"):
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
