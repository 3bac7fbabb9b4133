"""What the papers say is so: every block is run, read, or listed with the reason why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.papers.diagrams import PAGE, with_diagrams
from tests.papers.fences import PAPERS, PROJECT, SHOWN, Fence, all_fences, text_of
from tests.papers.parsing import READERS, check_command, simple_commands

MOST_LINES = {"README.md": 180, "CHANGELOG.md": 1_000}
MOST_LINES_OF_A_PAGE = 250

SPAN = re.compile(r"(?<!`)`((?:carpool|make) [^`\n]+)`(?!`)")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def test_every_fence_says_what_a_test_does_with_it() -> None:
    assert list(map(str, all_fences(None))) == []


def test_what_is_only_shown_is_listed_with_its_reason() -> None:
    shown = {(fence.paper, fence.text.partition("\n")[0]) for fence in all_fences("show")}
    assert shown == SHOWN.keys()
    assert all(SHOWN.values())


@pytest.mark.parametrize("fence", all_fences("parse"), ids=str)
def test_what_is_read_makes_sense(fence: Fence) -> None:
    READERS[fence.language](fence.text)


@pytest.mark.parametrize("paper", PAPERS)
def test_commands_in_a_sentence_exist_with_their_options(paper: str) -> None:
    for span in SPAN.findall(text_of(paper)):
        for command in simple_commands(span.rstrip("…")):
            check_command(command)


@pytest.mark.parametrize("paper", PAPERS)
def test_links_lead_somewhere(paper: str) -> None:
    here = (PROJECT / paper).parent
    for target, anchor in LINK.findall(text_of(paper)):
        path = (here / target).resolve() if target else PROJECT / paper
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"


def anchors(path: Path) -> set[str]:
    """Return what GitHub makes of the headings."""
    headings = HEADING.findall(path.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("paper", PAPERS)
def test_no_page_is_longer_than_one_reads_at_once(paper: str) -> None:
    assert len(text_of(paper).splitlines()) <= MOST_LINES.get(paper, MOST_LINES_OF_A_PAGE)


def test_every_page_of_docs_is_linked_from_the_readme() -> None:
    linked = {target for target, _ in LINK.findall(text_of("README.md"))}
    assert {paper for paper in PAPERS if paper.startswith("docs/")} <= linked


def test_the_diagrams_are_those_of_the_states() -> None:
    text = PAGE.read_text()
    assert with_diagrams(text) == text, "run `make readme`"
