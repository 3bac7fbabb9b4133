"""Keys of the gateway: the form of their secrets, and what their holders may do."""

from __future__ import annotations

import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.policies import keys
from carpool_worker.policies.key_terms import KeyInvalid, check_terms
from carpool_worker.policies.keys import ALPHABET, GatewayKey, Scope
from carpool_worker.units import Milliseconds

SECRETS = st.text(ALPHABET, min_size=37, max_size=37).map(
    lambda random: f"cr_{random}{keys.check_sum(random)}"
)


def key(**fields: Any) -> GatewayKey:
    given: dict[str, Any] = {
        "id": "0" * 32,
        "name": "billing",
        "client": "billing",
        "hint": "Ab3dEf6h",
        "scopes": frozenset({Scope.MESSAGES}),
        "models": (),
        "requests_a_minute": None,
        "most_queued": None,
        "most_held": None,
        "budget": None,
        "lowest_priority": -100,
        "highest_priority": 100,
        "callback_hosts": (),
        "workspaces": False,
        "deadline": None,
        "deadline_policy": None,
        "created_at": 0,
        "expires_at": None,
        "expires_after": None,
        "first_used_at": None,
        "last_used_at": None,
        "revoked_at": None,
    }
    return GatewayKey(**given | fields)


def test_a_new_secret_is_well_formed_and_unlike_any_other() -> None:
    made = {keys.new_secret() for _ in range(100)}

    assert len(made) == 100
    assert all(map(keys.is_well_formed, made))
    assert {len(secret) for secret in made} == {len("cr_") + 43}


@given(SECRETS, st.integers(0, 42), st.sampled_from(ALPHABET))
def test_a_character_that_is_mistyped_is_noticed(secret: str, place: int, other: str) -> None:
    at = len("cr_") + place
    mistyped = secret[:at] + other + secret[at + 1 :]

    assert keys.is_well_formed(mistyped) == (mistyped == secret)


@given(SECRETS, st.integers(0, 41))
def test_two_neighbours_that_are_exchanged_are_noticed(secret: str, place: int) -> None:
    at = len("cr_") + place
    exchanged = secret[:at] + secret[at + 1] + secret[at] + secret[at + 2 :]

    assert keys.is_well_formed(exchanged) == (exchanged == secret)


@given(st.text(max_size=60))
def test_nothing_else_is_well_formed(text: str) -> None:
    assert not keys.is_well_formed(text)


@given(SECRETS, st.sampled_from(["", " ", "\n", "ä", "٣"]))
def test_what_has_more_to_it_is_not_well_formed(secret: str, more: str) -> None:
    assert keys.is_well_formed(secret + more) == (more == "")


@given(SECRETS)
def test_what_is_stored_of_a_secret_has_its_visible_characters_alone(secret: str) -> None:
    assert keys.hint_of(secret) == secret[3:11]
    assert len(keys.hash_of(secret)) == 64
    assert set(keys.hash_of(secret)) <= set(string.hexdigits.lower())


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        ((), "anything", True),
        (("claude-haiku-*",), "claude-haiku-4-5", True),
        (("claude-haiku-*",), "claude-opus-4-5", False),
        (("claude-opus-4-5",), "claude-opus-4-5-20260101", False),
        (("*-4-5", "claude-x"), "claude-x", True),
        (("claude.haiku",), "claude-haiku", False),
    ],
)
def test_a_key_allows_models_by_patterns(patterns: tuple[str, ...], model: str, allowed: bool) -> None:
    assert key(models=patterns).allows_model(model) is allowed


@given(st.lists(st.text("ab-", max_size=4), max_size=4), st.text("ab-", max_size=12))
def test_a_pattern_matches_what_has_its_parts_in_order(parts: list[str], text: str) -> None:
    assert keys.matches(["*".join([*parts, text, ""])], "".join([*parts, text]))
    assert keys.matches(["*"], text)


def test_a_key_allows_callbacks_by_host() -> None:
    narrow = key(callback_hosts=("hooks.example.com", "*.example.org"))

    assert narrow.allows_callback("Hooks.Example.com.")
    assert narrow.allows_callback("a.b.example.org")
    assert not narrow.allows_callback("example.org")
    assert not narrow.allows_callback("evil-example.org")
    assert not narrow.allows_callback("hooks.example.com.evil.net")
    assert key().allows_callback("anywhere.net")


@given(st.integers(-100, 100), st.integers(-100, 100), st.integers(-100, 100))
def test_a_priority_is_clamped_to_the_keys_range(one: int, other: int, wanted: int) -> None:
    lowest, highest = sorted((one, other))

    clamped = key(lowest_priority=lowest, highest_priority=highest).clamp(wanted)

    assert lowest <= clamped <= highest
    assert clamped == wanted or clamped in (lowest, highest)


def test_a_key_is_valid_until_it_expires_or_is_revoked() -> None:
    at = Milliseconds(1_000)

    assert key().is_valid(at)
    assert key(expires_at=1_001).is_valid(at)
    assert not key(expires_at=1_000).is_valid(at)
    assert not key(revoked_at=5).is_valid(at)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"client": "no spaces"}, "client: must be 1 to 64 letters"),
        ({"name": "a" * 32}, "name: must not be 32 hexadecimal digits"),
        ({"scopes": []}, "scopes: "),
        ({"scopes": ["everything"]}, "scopes"),
        ({"models": ["claude haiku"]}, "models.0: each must be a model's name"),
        ({"requests_a_minute": 0}, "requests_a_minute: Input should be greater than or equal to 1"),
        ({"most_queued": "many"}, "most_queued: "),
        ({"most_held": 10**10}, "most_held: "),
        ({"day": 0}, "day: Input should be greater than 0"),
        ({"month": "NaN"}, "month: "),
        ({"day": 10**9}, "day: "),
        ({"over": "maybe"}, "over: Input should be 'wait' or 'refuse'"),
        ({"lowest_priority": -101}, "lowest_priority: "),
        ({"lowest_priority": 5, "highest_priority": 4}, "lowest_priority must not be above highest_priority"),
        ({"callback_hosts": ["https://example.com/x"]}, "callback_hosts.0: each must be a host"),
        ({"callback_hosts": ["example.com"]}, "callback_hosts needs the scope callbacks"),
        ({"expires_at": "tomorrow"}, "expires_at: "),
        ({"expires_after": -1}, "expires_after: "),
        ({"expires_at": "2030-01-01T00:00:00Z", "expires_after": 60}, "exclude each other"),
        ({"colour": "red"}, "colour: there is no such field"),
    ],
)
def test_terms_that_break_a_rule_are_refused_with_the_field_and_the_rule(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(KeyInvalid) as refused:
        check_terms({"client": "billing", "name": "billing"} | fields)
    assert said in str(refused.value)


def test_terms_are_as_they_were_given() -> None:
    terms = check_terms(
        {
            "client": "billing",
            "name": "nightly",
            "scopes": ["messages", "callbacks"],
            "callback_hosts": ["*.Example.com"],
            "day": "0.5",
            "over": "wait",
            "expires_at": "2030-01-01T01:00:00+01:00",
        }
    )

    assert terms.callback_hosts == ("*.example.com",)
    assert terms.budget is not None
    assert terms.budget.limits == {"day": 5 * 10**11}
    assert terms.expiry == int(datetime(2030, 1, 1, tzinfo=UTC).timestamp()) * 1_000
    assert check_terms({"client": "a", "name": "a"}).budget is None
