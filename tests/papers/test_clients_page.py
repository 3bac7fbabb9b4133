"""docs/clients.md names the versions of programs that `make programs` runs."""

from __future__ import annotations

import json

import pytest
from tests.papers.fences import PROJECT, text_of

PROGRAMS = PROJECT / "tests" / "programs"
UNLISTED = {"@langchain/core", "zod"}
"""Node packages that the scripts use besides the programs."""

PINNED_FIRST = {path.stem: path.read_text().split()[0] for path in (PROGRAMS / "requirements").glob("*.txt")}
NODE = json.loads((PROGRAMS / "node" / "package.json").read_text())["dependencies"]


@pytest.mark.parametrize("environment", sorted(PINNED_FIRST))
def test_the_page_has_the_version_of_each_python_program(environment: str) -> None:
    assert PINNED_FIRST[environment].partition("==")[2] in text_of("docs/clients.md")


@pytest.mark.parametrize("package", sorted(NODE.keys() - UNLISTED))
def test_the_page_has_the_version_of_each_node_program(package: str) -> None:
    page = text_of("docs/clients.md")
    assert f"`{package}`" in page
    assert NODE[package] in page
