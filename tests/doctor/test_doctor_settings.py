"""The doctor on settings: those that break a rule, that nobody reads, that are dangerous."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.fixtures.doctor import SECRET, Doctor

from carpool_worker.doctor.settings_in_force import unknown_variables


def test_settings_that_break_a_rule_are_all_that_is_examined(doctor: Doctor) -> None:
    doctor.set(CARPOOL_FLUSH_COUNT="0", CARPOOL_WEBHOOK_SECRET="whsec_short")

    [one] = doctor()

    assert (one["check"], one["verdict"], doctor.exit_code) == ("settings", "wrong", 1)
    assert "CARPOOL_FLUSH_COUNT" in one["what"]
    assert "CARPOOL_WEBHOOK_SECRET" in one["what"]
    assert "short" not in one["what"].replace("too short", "")


def test_a_name_in_the_file_that_is_no_setting_is_wrong(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "carpool.toml").write_text("flush_cuont = 3\n")
    doctor.set(CARPOOL_CONFIG=f"{tmp_path}/carpool.toml")

    assert "flush_cuont" in doctor.finds("settings", "wrong", "flush_cuont").what


def test_a_variable_that_nothing_reads_is_named_with_the_one_that_is_meant(doctor: Doctor) -> None:
    doctor.set(CARPOOL_FLUSH_INTERVALL="5", CARPOOL_CLIENT="billing")

    one = doctor.finds("settings", "warning", "CARPOOL_FLUSH_INTERVALL")

    assert one.mend == "is CARPOOL_FLUSH_INTERVAL meant?"


def test_no_variable_that_carpool_names_anywhere_is_unknown() -> None:
    # Given every name in its code, its configuration and its pages
    root = Path(__file__).parents[2]
    files = [
        path
        for place in ("producer", "worker", "config", "docs", "README.md", "compose.yaml")
        for path in ([root / place] if (root / place).is_file() else (root / place).rglob("*"))
        if path.suffix in {".py", ".md", ".sh", ".toml", ".yaml", ".yml", ".service", ".html"}
    ]
    named = {
        name for path in files for name in re.findall(r"\bCARPOOL_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
    }
    own = {name for name in named if not name.startswith("CARPOOL_TESTS_")}

    # Then the doctor takes none of them, nor what a `carpool up` sets, for a mistake
    assert {"CARPOOL_SIMULATOR_URL", "CARPOOL_CLIENT", "CARPOOL_INBOX_SHARDS"} <= own
    assert not [one.what for one in unknown_variables(dict.fromkeys(own, "x"))]


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("settle_interval", "5", "warning"),
        ("flush_interval", "0", "warning"),
        ("answers_retention_days", "0.1", "warning"),
        ("webhook_allowed_networks", "0.0.0.0/0", "wrong"),
        ("webhook_allowed_networks", "169.254.169.254/32", "wrong"),
    ],
)
def test_a_value_that_is_allowed_but_dangerous_is_named(
    doctor: Doctor, name: str, value: str, verdict: str
) -> None:
    doctor.set(**{f"CARPOOL_{name.upper()}": value})

    doctor.finds("settings", verdict, name)


def test_a_secret_in_a_file_that_others_can_read_is_found(doctor: Doctor, tmp_path: Path) -> None:
    path = tmp_path / "carpool.toml"
    path.write_text(f'webhook_secret = ["{SECRET}"]\n')
    path.chmod(0o644)
    doctor.set(CARPOOL_CONFIG=str(path))

    one = doctor.finds("settings", "warning", "others on this machine can read it")
    path.chmod(0o600)

    assert one.mend.startswith(f"chmod 600 {path}")
    assert not [one for one in doctor() if one["check"] == "settings" and one["verdict"] != "ok"]
