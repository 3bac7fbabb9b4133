"""What runs Carpool elsewhere: Kubernetes' manifests, systemd's units, and the locked requirements."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from carpool_worker.coordination.keys import AGENTS, queue

PROJECT = Path(__file__).parents[1]
COMPOSE: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
MANIFESTS: list[dict[str, Any]] = [
    *yaml.safe_load_all((PROJECT / "config/kubernetes/carpool.yaml").read_text())
]
UNITS = sorted((PROJECT / "config/systemd").iterdir())
SECRETS = {
    "ANTHROPIC_API_KEY": "carpool-claude",
    "CARPOOL_WEBHOOK_SECRET": "carpool-webhooks",
    "CARPOOL_DATABASE_URL": "carpool-database",
    "CARPOOL_REDIS_URL": "carpool-redis",
    "FLOWER_BASIC_AUTH": "carpool-flower",
    "CARPOOL_CONSOLE_PASSWORD": "carpool-console",
    "CARPOOL_CONSOLE_SECRET": "carpool-console",
}
"""Variables that are secrets, and the secret of Kubernetes that each is in."""


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod of each part, by the part's name."""
    found = [one for one in MANIFESTS if one["kind"] in ("Deployment", "Job")]
    return {
        one["metadata"]["name"].removeprefix("carpool-"): one["spec"]["template"]["spec"] for one in found
    }


def test_the_manifests_follow_the_schemas_of_kubernetes() -> None:
    # The schemas are Kubernetes' own, as kubernetes-validate ships them; strict: no field that it doesn't know
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, "1.32", strict=True)


@pytest.mark.parametrize("name", [name for name in COMPOSE if name not in ("redis", "postgres", "operator")])
def test_kubernetes_runs_what_compose_runs_with_the_same_secrets(name: str) -> None:
    # Given a part of compose.yaml, Then Kubernetes runs the same command and gives it the same secrets, no others
    [container] = pods()[name]["containers"]
    assert container["args"] == COMPOSE[name]["command"]
    assert container["image"] == COMPOSE[name]["image"]
    given = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"]}
    assert given.keys() == COMPOSE[name]["environment"].keys() - {"ANTHROPIC_BASE_URL"}
    assert {variable: one["name"] for variable, one in given.items()} == {
        variable: SECRETS[variable] for variable in given
    }
    assert "CARPOOL_REDIS_URL" not in given or given["CARPOOL_REDIS_URL"]["key"] == name


@pytest.mark.parametrize("name", list(pods()))
def test_no_pod_has_privileges(name: str) -> None:
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


def test_no_container_of_ours_has_privileges() -> None:
    for name, service in COMPOSE.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"], name


def test_the_secrets_are_only_where_they_are_needed() -> None:
    def having(variable: str) -> set[str]:
        return {name for name, one in COMPOSE.items() if variable in one.get("environment", {})}

    assert having("CARPOOL_WEBHOOK_SECRET") == {"deliver", "operator"}
    assert having("ANTHROPIC_API_KEY") == {
        *("submit", "call", "poll", "collect", "gateway", "console", "operator")
    }


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    # Given the units, with a program in place of the one that they start, which is not installed here
    program = "/opt/carpool/bin/carpool"
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(program, sys.executable))
    names = [str(tmp_path / unit.name.replace("@.", "@deliver.")) for unit in UNITS]
    (tmp_path / "carpool-worker@deliver.service").symlink_to(tmp_path / "carpool-worker@.service")

    # When systemd verifies them, Then it has nothing to say
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", *names]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_the_units_run_what_compose_runs() -> None:
    texts = {unit.stem.removeprefix("carpool-"): unit.read_text() for unit in UNITS}
    for name in ("beat", "gateway", "console", "flower", "metrics", "migrate"):
        assert f"ExecStart=/opt/carpool/bin/carpool {name}" in texts[name]
    assert "worker --queues carpool.%i " in texts["worker@"]
    assert all(queue(agent) == f"carpool.{agent}" for agent in AGENTS)
    for agent in AGENTS:
        assert agent in re.findall(r"[a-z]+", texts["worker@"])


def locked(name: str) -> dict[str, list[str]]:
    """Return the versions of each package in a file of locked requirements."""
    found: dict[str, list[str]] = {}
    for line in (PROJECT / "config" / name).read_text().splitlines():
        if pinned := re.match(r"([a-z0-9-]+)==([^ ;]+)", line):
            found.setdefault(pinned[1], []).append(pinned[2])
    return found


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("requirements.txt", ("worker", "otel", "plot")),
        ("requirements-dev.txt", ("worker", "dev", "anthropic")),
    ],
)
def test_what_is_locked_is_what_pyproject_asks_for(name: str, extras: tuple[str, ...]) -> None:
    # After a change to pyproject.toml: make lock
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(one for extra in extras for one in project["optional-dependencies"][extra]),
    ]
    versions = locked(name)
    for requirement in map(Requirement, asked):
        found = versions.get(re.sub("[-_.]+", "-", requirement.name).lower(), [])
        assert any(requirement.specifier.contains(version, prereleases=True) for version in found), (
            requirement
        )


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_locked_package_has_hashes_and_no_registry_is_named(name: str) -> None:
    text = (PROJECT / "config" / name).read_text()
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.M)[1:]
    assert len(packages) > 50
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text
