"""The pages of clients and keys: cards, one client, its advice, and keys that are made, rotated and revoked."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from tests.fixtures.console import Browser, signed_on
from tests.fixtures.ledger import given, used
from tests.fixtures.waiting import until

from carpool_worker.database import read
from carpool_worker.operations import keys
from carpool_worker.policies.keys import hash_of
from carpool_worker.store import gateway_keys
from carpool_worker.views.keys import all_keys

SECRET = re.compile(r'id="secret">(cr_[0-9A-Za-z]{43})<')


def secret_in(text: str) -> str:
    found = SECRET.search(text)
    assert found, text
    return found[1]


def state_of(engine: sa.Engine, name: str) -> str:
    with read(engine) as connection:
        return next(one.state for one in all_keys(connection, revoked=True) if one.name == name)


def test_each_client_has_a_card_the_dearest_first(operator: Browser, console_engine: sa.Engine) -> None:
    # Given
    given(
        console_engine,
        used("books", 3, cache_read_tokens=3_000),
        used("shop", 4, 2),
        used("old", 9, days_ago=50),
    )

    # Then
    shown = operator.get("/clients?period=7d").text
    assert shown.index("/clients/shop?") < shown.index("/clients/books?")
    assert "/clients/old?" not in shown
    assert "75 % of prompt tokens" in shown
    assert "/clients/old?" in operator.get("/clients?period=90d").text
    assert "/clients/shop?" not in operator.get("/clients?named=ook").text


def test_a_client_has_its_models_and_the_advice_on_it(operator: Browser, console_engine: sa.Engine) -> None:
    # Given what a smaller model would do for a fraction
    given(console_engine, used("lavish", 100, model="claude-opus-4-1"))

    # Then
    page = operator.get("/clients/lavish")
    assert page.status == 200
    assert "claude-opus-4-1" in page.text
    until(lambda: "still being worked out" not in operator.get("/clients/lavish").text)
    assert operator.get("/clients/nobody").status == 404


def test_a_key_is_made_rotated_and_revoked_and_its_secret_is_shown_once(
    operator: Browser, console_engine: sa.Engine
) -> None:
    # When
    made = operator.post(
        "/keys/create",
        {"client": "books", "name": "nightly", "scopes": "messages", "models": "claude-haiku-*", "day": "5"},
    )

    # Then
    first = secret_in(made.text)
    assert made.headers["Cache-Control"] == "no-store"
    for path in ("/clients", "/clients/books"):
        page = operator.get(path).text
        assert "nightly" in page
        assert first not in page
    with read(console_engine) as connection:
        key = gateway_keys.find(connection, hash_of(first))
    assert key is not None
    assert (key.client, key.models) == ("books", ("claude-haiku-*",))
    assert key.budget is not None
    assert key.budget.day == 5

    # When
    second = secret_in(operator.post("/keys/rotate", {"key": "nightly", "grace": "at once"}).text)

    # Then
    with read(console_engine) as connection:
        assert gateway_keys.find(connection, hash_of(first)) is None
        assert gateway_keys.find(connection, hash_of(second)) is not None

    # When
    revoked = operator.post("/keys/revoke", {"key": "nightly"})

    # Then
    assert "Revoked: nightly" in revoked.text
    assert state_of(console_engine, "nightly") == "revoked"
    assert operator.post("/keys/rotate", {"key": "nightly", "grace": "at once"}).status == 400
    assert operator.post("/keys/revoke", {"key": "nobodys"}).status == 404


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"client": "not a name", "scopes": "messages"}, 400, "client: must be 1 to 64 letters"),
        ({"client": "books", "name": "x", "scopes": "messages", "day": "-1"}, 400, "day: "),
        (
            {"client": "books", "name": "x", "scopes": "messages", "requests_a_minute": "few"},
            400,
            "whole number",
        ),
        ({"client": "books", "name": "x", "scopes": "admin"}, 403, "by `carpool keys` alone"),
    ],
)
def test_what_a_key_can_not_be_is_refused_in_a_sentence(
    operator: Browser, fields: dict[str, str], status: int, said: str
) -> None:
    answer = operator.post("/keys/create", fields)
    assert (answer.status, said in answer.text) == (status, True)


def test_keys_for_operators_are_left_to_the_command_line(
    operator: Browser, console_engine: sa.Engine
) -> None:
    keys.create(console_engine, {"client": "ops", "name": "boss", "scopes": ["admin", "look"]}, actor="test")

    for path, more in (("/keys/rotate", {"grace": "at once"}), ("/keys/revoke", {})):
        answer = operator.post(path, {"key": "boss", **more})
        assert (answer.status, "by `carpool keys` alone" in answer.text) == (403, True)
    assert state_of(console_engine, "boss") == "valid"


def test_keys_take_the_role_admin_as_a_key_opens_its_clients_answers(
    console: str, console_engine: sa.Engine
) -> None:
    secret = keys.create(
        console_engine, {"client": "ops", "name": "actor", "scopes": ["look", "act"]}, actor="test"
    ).secret
    actor = signed_on(console, str(secret))

    assert "/keys/create" not in actor.get("/clients").text
    assert actor.post("/keys/create", {"client": "books", "scopes": "messages"}).status == 403


def test_a_tenant_sees_its_own_card_and_keys_alone(console: str, console_engine: sa.Engine) -> None:
    # Given
    given(console_engine, used("tenant", 1), used("neighbour", 2))
    secret = keys.create(console_engine, {"client": "tenant", "scopes": ["usage"]}, actor="test").secret
    keys.create(console_engine, {"client": "neighbour", "name": "theirs"}, actor="test")
    tenant = signed_on(console, str(secret))

    # Then
    shown = tenant.get("/clients").text
    assert "/clients/tenant?" in shown
    assert "neighbour" not in shown
    assert "theirs" not in shown
    assert tenant.get("/clients/neighbour").status == 404
    assert tenant.get("/clients/tenant").status == 200
