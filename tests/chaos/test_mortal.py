"""What a mortal worker shortens is there: a constant that was renamed would be shortened no longer, and nobody told."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from carpool_worker.coordination import locks


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("CHAOS_POINTS", str(tmp_path / "points"))
    return importlib.import_module("tests.chaos.mortal")


def test_each_constant_that_is_shortened_exists(mortal: ModuleType) -> None:
    assert mortal.stale_names(mortal.SHORTENED) == []


def test_a_stale_name_fails_at_once(mortal: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    stale: dict[ModuleType, dict[str, Any]] = {locks: {"LEASE_SECONDS": 2.0}}
    monkeypatch.setattr(mortal, "SHORTENED", stale)

    with pytest.raises(AttributeError, match=r"carpool_worker\.coordination\.locks\.LEASE_SECONDS"):
        mortal.shorten_waits()
