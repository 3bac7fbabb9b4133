"""What operators are given, the settings file and compose.yaml, is correct."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import carpool
from carpool_worker.exceptions import WorkerError
from carpool_worker.operations.configuration import CHECKOUT, PARTS, write_config
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the wheel of this tree was unpacked into."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    built = subprocess.run(
        [sys.executable, "-c", build], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    unpacked = folder / "unpacked"
    zipfile.ZipFile(folder / built.stdout.splitlines()[-1]).extractall(unpacked)
    return unpacked


def test_the_wheel_has_what_operators_need(wheel: Path) -> None:
    # Then what `carpool config` writes is in it, the same to the byte
    for part in PARTS:
        for path in [CHECKOUT / part, *(CHECKOUT / part).rglob("*")]:
            packaged = wheel / "carpool_worker" / "config" / path.relative_to(CHECKOUT)
            assert packaged.exists(), path
            assert path.is_dir() or packaged.read_bytes() == path.read_bytes()


def test_the_wheel_says_what_pypi_shows(wheel: Path) -> None:
    [metadata] = wheel.glob("*.dist-info/METADATA")
    told = metadata.read_text()
    assert f"Version: {carpool.__version__}" in told
    assert "Keywords: anthropic," in told
    assert "Description-Content-Type: text/markdown" in told


def installed(wheel: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the wheel with nothing installed beside it."""
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from carpool_worker.__main__ import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-S", "-c", program, str(wheel), *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_producer_alone_has_a_command_that_names_the_extra(wheel: Path) -> None:
    # When any command is run where only the producer is installed, Then one line says what to install
    for arguments in ([], ["status"], ["--help"]):
        run = installed(wheel, *arguments)
        assert run.returncode == 1
        assert "pip install 'carpool[worker]'" in run.stderr
        assert len(run.stderr.splitlines()) == 1


def test_the_command_says_its_version() -> None:
    for option in ("--version", "-V"):
        run = subprocess.run(
            [sys.executable, "-m", "carpool_worker", option], capture_output=True, text=True, check=True
        )
        assert run.stdout == f"carpool {carpool.__version__}\n"
    assert services()["beat"]["image"] == f"carpool:{carpool.__version__}"


def test_config_writes_the_files_and_replaces_nothing(tmp_path: Path) -> None:
    # Given the files written once, and one of them edited
    folder = tmp_path / "config"
    assert {one.state for one in write_config(folder)} == {"written"}
    assert {one.state for one in write_config(folder)} == {"unchanged"}
    (folder / "redis.conf").write_text("maxmemory 4gb\n")
    (folder / "flower.py").unlink()

    # When they are written again, Then the edited one is named, and nothing is written
    with pytest.raises(WorkerError, match=r"redis\.conf: there already"):
        write_config(folder)
    assert not (folder / "flower.py").exists()

    # When it is to be replaced, Then it is
    assert {one.path.name for one in write_config(folder, ["redis.conf"], replace=True)} == {"redis.conf"}
    assert (folder / "redis.conf").read_bytes() == (CHECKOUT / "redis.conf").read_bytes()

    # When there is no such file, Then those that there are are named
    with pytest.raises(WorkerError, match=r"there are carpool\.toml, redis\.conf"):
        write_config(folder, ["redis"[:-1]])
