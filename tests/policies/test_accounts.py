"""Which account takes a request, and which settings of accounts are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carpool_worker.claude.credentials import Credentials, missing, read_credentials, unreadable
from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.policies.accounts import Account, account_of
from carpool_worker.settings import read_settings

KEY = "env:SOME_KEY"


def test_the_first_account_whose_patterns_fit_takes_a_request_and_the_default_one_the_rest() -> None:
    accounts = {
        "default": Account(retired_keys=(KEY,)),
        "labs": Account(api_key=KEY, clients=("lab-*",), models=("claude-opus-*", "claude-sonnet-4-5")),
        "opus": Account(api_key=KEY, models=("*opus*",)),
        "spare": Account(api_key=KEY),
    }

    assert account_of(accounts, "lab-1", "claude-opus-4-5") == "labs"
    assert account_of(accounts, "lab-1", "claude-sonnet-4-5") == "labs"
    assert account_of(accounts, "LAB-1", "claude-opus-4-5") == "opus"
    assert account_of(accounts, "billing", "claude-opus-4-5") == "opus"
    assert account_of(accounts, "lab-1", "claude-haiku-4-5") is None
    assert account_of({}, "lab-1", "claude-opus-4-5") is None


@pytest.mark.parametrize(
    ("accounts", "words"),
    [
        ({"research": {"clients": ["lab"]}}, r"research\.api_key: must be env:"),
        ({"research": {"api_key": "sk-ant-verysecret"}}, "never the key itself"),
        ({"research": {"api_key": "env:A B"}}, "must be env:VARIABLE"),
        ({"re search": {"api_key": KEY}}, "a name has"),
        ({"default": {"clients": ["lab"]}}, "it takes what no other account does"),
        ({"research": {"api_key": KEY, "retired_keys": [KEY]}}, "must not have the key that is in use"),
        ({"research": {"api_key": KEY, "queue_limit": 0}}, "greater than or equal to 1"),
        ({"research": {"api_key": KEY, "base_url": "ftp://x"}}, "pattern"),
        ({"research": {"api_key": KEY, "key": "x"}}, "[Ee]xtra"),
    ],
)
def test_accounts_that_can_not_work_are_refused_and_no_key_is_told(
    monkeypatch: pytest.MonkeyPatch, accounts: object, words: str
) -> None:
    monkeypatch.setenv("CARPOOL_ACCOUNTS", json.dumps(accounts))

    with pytest.raises(SettingsInvalid, match=words) as refused:
        read_settings()

    assert "CARPOOL_ACCOUNTS" in str(refused.value)
    assert "verysecret" not in str(refused.value)


def test_keys_are_read_from_the_environment_and_from_files_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-first\n")
    monkeypatch.setenv("SOME_KEY", " sk-old ")
    accounts = {
        "research": Account(
            api_key=f"file:{secret}",
            retired_keys=(KEY, "env:NOWHERE"),
            base_url="https://relay.example.com",
            workspace="wrkspc_1",
        ),
    }

    default, current, retired = read_credentials(accounts)
    assert default == Credentials()
    assert (current.account, current.api_key, current.is_retired) == ("research", "sk-first", False)
    assert (current.base_url, current.workspace) == ("https://relay.example.com", "wrkspc_1")
    assert (retired.account, retired.api_key, retired.is_retired) == ("research", "sk-old", True)
    assert "sk-" not in repr([current, retired])
    assert unreadable(accounts) == [("research", "env:NOWHERE")]

    secret.write_text("sk-second")
    assert [one.api_key for one in read_credentials(accounts)] == [None, "sk-second", "sk-old"]

    secret.unlink()
    assert f"there is no API key in {secret}" in str(read_credentials(accounts)[1].unusable)
    assert "research: it is not in the settings" in str(missing("research").unusable)


def test_an_account_without_a_queue_limit_of_its_own_has_that_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accounts = {"research": {"api_key": KEY}, "large": {"api_key": KEY, "queue_limit": 9}, "default": {}}
    monkeypatch.setenv("CARPOOL_ACCOUNTS", json.dumps(accounts))
    monkeypatch.setenv("CARPOOL_QUEUE_LIMIT", "5")

    policy = read_settings().submit_policy

    assert [policy.limit_of(name) for name in (None, "research", "large", "gone")] == [5, 5, 9, 5]
