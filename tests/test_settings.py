"""Settings: where they come from, which wins, and what is refused by name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.setting_values import API_MAX_BYTES, API_MAX_REQUESTS
from carpool_worker.settings import Settings, read_settings

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
SHIPPED = Path(__file__).parents[1] / "config" / "carpool.toml"


@pytest.fixture(autouse=True)
def no_settings_of_the_developers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ["config", *Settings.model_fields]:
        monkeypatch.delenv(f"CARPOOL_{name.upper()}", raising=False)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "other.toml"
    monkeypatch.setenv("CARPOOL_CONFIG", str(path))
    return path


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("flush_count = 10\nflush_interval = 5\n")
    monkeypatch.setenv("CARPOOL_FLUSH_COUNT", "20")

    found = read_settings()

    assert (found.flush_count, found.flush_interval, found.max_attempts) == (20, 5, 3)


def test_a_file_here_is_read_without_being_named(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "carpool.toml").write_text("max_attempts = 7\n")

    assert read_settings().max_attempts == 7


def test_a_named_file_that_is_not_there_is_an_error(file: Path) -> None:
    with pytest.raises(SettingsInvalid, match=re.escape(f"CARPOOL_CONFIG names {file}")):
        read_settings()


def test_a_setting_that_there_is_not_is_an_error_that_names_it_and_its_file(file: Path) -> None:
    file.write_text("flush_intervall = 10\n")

    with pytest.raises(
        SettingsInvalid, match=re.escape(f"flush_intervall (in {file}): there is no such setting")
    ):
        read_settings()


def test_a_file_that_is_no_toml_is_an_error_that_names_it(file: Path) -> None:
    file.write_text("flush_count = = 10\n")

    with pytest.raises(SettingsInvalid, match=re.escape(str(file))):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flush_count", str(API_MAX_REQUESTS + 1)),
        ("flush_count", "0"),
        ("flush_bytes", str(API_MAX_BYTES + 1)),
        ("flush_interval", "-1"),
        ("poll_interval", "0"),
        ("poll_interval", "inf"),
        ("settle_interval", "nan"),
        ("max_attempts", "0"),
        ("webhook_allowed_networks", "10.0.0.0/99"),
        ("webhook_schedule", "5,soon"),
        ("webhook_schedule", "5,-1"),
        ("client_weights", "nightly=1"),
        ("client_weights", '{"nightly": 0}'),
        ("client_weights", '{"nightly": -1}'),
        ("client_weights", '{"nightly": 1001}'),
        ("client_weights", '{"nightly": NaN}'),
        ("client_weights", '{"nightly": "much"}'),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CARPOOL_{name.upper()}", value)

    with pytest.raises(SettingsInvalid, match=f"{name}.*CARPOOL_{name.upper()}"):
        read_settings()


def test_an_unknown_setting_in_the_file_is_refused_by_name(file: Path) -> None:
    file.write_text("flush_cuont = 10\n")

    with pytest.raises(SettingsInvalid, match="flush_cuont"):
        read_settings()


def test_all_errors_are_told_at_once_and_no_secret_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARPOOL_FLUSH_COUNT", "many")
    monkeypatch.setenv("CARPOOL_MAX_ATTEMPTS", "0")
    monkeypatch.setenv("CARPOOL_WEBHOOK_SECRET", "whsec_verysecret")

    with pytest.raises(SettingsInvalid, match=r"(?s)flush_count.*max_attempts") as refused:
        read_settings()

    assert "verysecret" not in str(refused.value)


def test_lists_come_from_the_environment_with_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARPOOL_WEBHOOK_SECRET", f"{NEW}, {OLD}")
    monkeypatch.setenv("CARPOOL_WEBHOOK_ALLOWED_NETWORKS", "10.0.0.0/8,::1/128")
    monkeypatch.setenv("CARPOOL_WEBHOOK_SCHEDULE", "1, 2.5")
    monkeypatch.setenv("CARPOOL_TASK_ALLOWED", "billing.*")

    found = read_settings()

    assert [secret.get_secret_value() for secret in found.webhook_secret] == [NEW, OLD]
    assert [str(network) for network in found.webhook_allowed_networks] == ["10.0.0.0/8", "::1/128"]
    assert found.webhook_schedule == [1, 2.5]
    assert found.task_allowed == ["billing.*"]
    assert "whsec" not in repr(found)


def test_budgets_are_tables_in_the_file_and_json_in_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('[budgets.billing]\nday = 5.1\nover = "refuse"\n[budgets.default]\nmonth = 100\n')
    in_file = read_settings().budgets
    assert (in_file["billing"].limits, in_file["billing"].over) == ({"day": 5_100_000_000_000}, "refuse")
    assert in_file["default"].limits == {"month": 100 * 10**12}

    monkeypatch.setenv("CARPOOL_BUDGETS", '{"search": {"day": 0.1}}')

    assert {client: budget.limits for client, budget in read_settings().budgets.items()} == {
        "search": {"day": 10**11}
    }


def test_quotas_are_tables_in_the_file_and_json_in_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[quotas.billing]\nrequests = 5\n[quotas.default]\nbytes = 100\n")
    assert {client: str(quota) for client, quota in read_settings().quotas.items()} == {
        "billing": "5 0",
        "default": "0 100",
    }
    monkeypatch.setenv("CARPOOL_QUOTAS", '{"search": {"requests": 1, "bytes": 2}}')
    assert {client: str(quota) for client, quota in read_settings().quotas.items()} == {"search": "1 2"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"billing": {"requests": 0}}', r"quotas\.billing\.requests .*greater than 0"),
        ('{"billing": {}}', r"quotas\.billing .*must say requests or bytes"),
        ('{"billing": {"tokens": 5}}', r"quotas\.billing\.tokens .*not permitted"),
        ('{"the clients": {"requests": 5}}', r"quotas .*'the clients' is no client"),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused_by_name(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARPOOL_QUOTAS", value)

    with pytest.raises(SettingsInvalid, match=said):
        read_settings()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            '{"billing": {"day": 0}}',
            r"budgets\.billing\.day \(.*CARPOOL_BUDGETS\): Input should be greater than 0",
        ),
        ('{"billing": {"over": "wait"}}', r"budgets\.billing .*must say day or month, in dollars"),
        ('{"billing": {"week": 5}}', r"budgets\.billing\.week .*not permitted"),
        ("billing=5", r"budgets .*must be JSON"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_by_name(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARPOOL_BUDGETS", value)

    with pytest.raises(SettingsInvalid, match=said):
        read_settings()


def test_the_shipped_file_explains_every_setting_with_its_default() -> None:
    text = SHIPPED.read_text()
    commented = "\n".join(re.findall(r"^# (\w+ = .*)$", text, re.MULTILINE))

    assert tomllib.loads(text) == {}
    assert tomllib.loads(commented) == {
        name: value for name, value in read_settings().model_dump(mode="json").items() if name in commented
    }
    assert set(tomllib.loads(commented)) == set(Settings.model_fields)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!!", "whsec_YWJj", "A" * 32, f"whsec_{'A' * 88}"])
def test_a_secret_that_could_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("CARPOOL_WEBHOOK_SECRET", secret)

    with pytest.raises(SettingsInvalid, match="whsec_ and the base64 of 24 to 64 random bytes"):
        read_settings()


def test_a_post_that_could_outlive_its_message_is_refused_with_the_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CARPOOL_SUBMIT_TIMEOUT", "1501")

    with pytest.raises(
        SettingsInvalid, match=r"submit_timeout.*1,500 s at most: a post must end long before"
    ):
        read_settings()
