"""Programs that others wrote, unchanged, against a whole Carpool: for `make programs`, which installs them first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.acceptance.conftest import up, wait_until_ready

from carpool_worker.processes.data_folder import read_env

VARIABLE = "CARPOOL_TESTS_PROGRAMS"
"""Set by `make programs`; without it these tests are not collected, as they need what it installs."""

QUICK = {"CARPOOL_FLUSH_INTERVAL": "0.3", "CARPOOL_POLL_INTERVAL": "0.5", "CARPOOL_GATEWAY_MAX_WAIT": "0.1"}

collect_ignore_glob = [] if VARIABLE in os.environ else ["test_*.py"]


class Door(NamedTuple):
    """Where the gateway is, a key for it, and what a program is told of both: nothing but the environment."""

    url: str
    secret: str

    def environment(self) -> dict[str, str]:
        """Return the environment of a program: this machine's, with the gateway in Anthropic's place."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CARPOOL_", "ANTHROPIC_"))
        }
        return kept | {"ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": self.secret}


@pytest.fixture(scope="session")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The gateway of a `carpool up`, with the simulator behind it."""
    data: Path = tmp_path_factory.mktemp("programs") / "carpool"
    with up(data, "--any-port", "--latency", "0.2", "--concurrency", "2", **QUICK) as process:
        wait_until_ready(process)
        env = read_env(data)
        yield Door(env["ANTHROPIC_BASE_URL"], env["ANTHROPIC_API_KEY"])


@pytest.fixture
def passed(request: pytest.FixtureRequest) -> list[tuple[str, str, int]]:
    """What passed: the program, its version, and how many of its calls were tried; printed in the end."""
    return request.config.stash.setdefault(PASSED, [])


PASSED: pytest.StashKey[list[tuple[str, str, int]]] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print a table of the programs that passed."""
    rows = config.stash.get(PASSED, [])
    if not rows:
        return
    terminalreporter.section("programs that passed, unchanged")
    for name, version, calls in rows:
        terminalreporter.write_line(f"{name:<24} {version:<12} {calls:>3} checks")
