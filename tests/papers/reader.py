"""Somebody who follows a page: types its commands into one shell, and its Python into one interpreter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit

import pytest
from tests.acceptance.conftest import QUICK_SETTINGS
from tests.fixtures.waiting import until
from tests.papers.fences import PROJECT, Fence

READY = re.compile(r"^Ready\.$|\bready\.$|Uvicorn running", re.MULTILINE)
"""What long-running programs print once they can be used."""

READY_WITHIN = 150.0
ENDS_WITHIN = 100.0
BLOCK_WITHIN = 300.0
"""Seconds; machines that run these tests are slow and busy, and a block can have a dozen commands."""

INTERPRETER = """
import json, sys, traceback
space, report, sys.stdout = {"__name__": "__main__"}, sys.stdout, sys.stderr
for line in sys.stdin:
    where, text = json.loads(line)
    try:
        exec(compile(text, where, "exec"), space)
    except BaseException:
        print(json.dumps(traceback.format_exc()), file=report, flush=True)
    else:
        print("null", file=report, flush=True)
"""
"""Runs one text after the other in one namespace, and says of each what it raised."""


class Reader:
    """Runs the fences of a page in order, in a folder like a clone of the project with `.venv` activated."""

    def __init__(self, folder: Path, variables: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True)
        for name in ("config", "docs", "compose.yaml", "producer", "worker"):
            (folder / name).symlink_to(PROJECT / name)
        (folder / ".venv").symlink_to(sys.prefix)
        self._folder = folder
        self._environment = clean_environment() | (QUICK_SETTINGS | variables if variables else {})
        self._background: list[tuple[subprocess.Popen[str], threading.Thread]] = []
        self._python: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._python:
            self._python.communicate(timeout=ENDS_WITHIN)
        for process, drained in reversed(self._background):
            process.terminate()
            process.wait(ENDS_WITHIN)
            drained.join()

    def follow(self, fence: Fence) -> None:
        """Do what the fence says; fails the test with its place and output where that fails."""
        if fence.language == "promql":
            self._query(fence)
        elif fence.language == "python":
            self._interpret(fence)
        elif fence.how == "run background":
            self._start(fence)
        else:
            self._execute(fence)

    def _execute(self, fence: Fence) -> None:
        kept = self._folder / ".environment"
        # What a block exports is there for the next one, as in one shell.
        script = f"set -euo pipefail\n{fence.text}\nenv -0 > {kept}\n"
        ran = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_WITHIN,
            check=False,
        )
        if ran.returncode:
            pytest.fail(f"{fence} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
        self._environment = dict(
            variable.split("=", 1) for variable in kept.read_text().split("\0") if variable
        )

    def _start(self, fence: Fence) -> None:
        process = subprocess.Popen(
            ["bash", "-c", f"exec env {fence.text.strip()}"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        printed: list[str] = []
        drained = threading.Thread(target=drain, args=(process.stdout, printed))
        drained.start()
        self._background.append((process, drained))
        until(lambda: READY.search("".join(printed)) or process.poll() is not None, within=READY_WITHIN)
        if process.poll() is not None:
            pytest.fail(f"{fence} ended with {process.returncode}:\n{''.join(printed)}")

    def _query(self, fence: Fence) -> None:
        # There is no Prometheus here, but the metrics of the query are among those that it would scrape.
        scraped = "".join(
            fetch(url) for url in (self._environment["CARPOOL_METRICS_URL"], self._flower_metrics())
        )
        for metric in re.findall(r"\b(?:carpool|flower)_\w+", fence.text):
            if metric not in scraped:
                pytest.fail(f"{fence}: no metric {metric}")

    def _flower_metrics(self) -> str:
        url = urlsplit(self._environment["CARPOOL_FLOWER_URL"])
        return f"http://{url.hostname}:{url.port}/metrics"

    def _interpret(self, fence: Fence) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", INTERPRETER],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self._python.stdin
        assert self._python.stdout
        print(json.dumps([str(fence), fence.text]), file=self._python.stdin, flush=True)
        if raised := json.loads(self._python.stdout.readline()):
            pytest.fail(f"{fence} raised:\n{raised}")


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def drain(output: IO[str], printed: list[str]) -> None:
    """Read until the end, so that the process never waits for a reader."""
    with output:
        for line in output:
            printed.append(line)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without its settings, and with the programs of its virtual environment."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("CARPOOL_", "ANTHROPIC_"))
    }
    assert shutil.which("bash")
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "COLUMNS": "100"}
