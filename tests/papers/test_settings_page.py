"""docs/settings.md has every setting, with its default and its unit as they are."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.papers.fences import text_of

from carpool_worker.setting_values import Days, Seconds
from carpool_worker.settings import Settings

ROW = re.compile(r"^\| `([a-z_]+)` \| `(.*?)` \| (.*?) \| (.+?) \|$", re.MULTILINE)
LISTED = {name: (default, unit) for name, default, unit, _ in ROW.findall(text_of("docs/settings.md"))}


def test_it_lists_every_setting_in_its_order() -> None:
    assert list(LISTED) == list(Settings.model_fields)


def test_the_defaults_are_those_in_force() -> None:
    defaults: dict[str, Any] = Settings.model_construct().model_dump(mode="json")
    assert {name: json.loads(default) for name, (default, _) in LISTED.items()} == defaults


def test_the_units_are_those_of_the_types() -> None:
    seconds = {name for name, (_, unit) in LISTED.items() if unit == "seconds"}
    days = {name for name, (_, unit) in LISTED.items() if unit == "days"}

    assert days - {"keys_retention_days", "requests_retention_days"} == {
        name for name in LISTED if typed(name, Days)
    }
    assert {name for name in LISTED if typed(name, Seconds) and name not in days} <= seconds
    assert all(unit for _, unit in LISTED.values())


def typed(name: str, kind: Any) -> bool:
    return bool(Settings.__annotations__[name] == {id(Days): "Days", id(Seconds): "Seconds"}[id(kind)])
