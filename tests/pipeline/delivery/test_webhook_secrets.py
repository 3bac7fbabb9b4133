"""A client's webhooks are signed with its own secret; while that is rotated, with the one before as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook, WebhookVerificationError
from tests.fixtures.command_line import run, succeeded
from tests.fixtures.deliveries import WEBHOOK_SECRET, deliver, given_deliveries, webhook
from tests.fixtures.receiver import Receiver

from carpool_worker.database import now, read, write
from carpool_worker.operations import webhook_secrets as operation
from carpool_worker.operations.keys import GraceInvalid
from carpool_worker.operations.webhook_secrets import ClientNameInvalid
from carpool_worker.store import webhook_secrets
from carpool_worker.units import Milliseconds

Accepted = Callable[[str], list[bool]]


@pytest.fixture
def accepted(engine: sa.Engine, receiver: Receiver) -> Accepted:
    """Deliver another answer of `billing`; return which of these secrets, with spaces between, verify it."""
    count = 0

    def post(secrets: str) -> list[bool]:
        nonlocal count
        given_deliveries(engine, webhook(receiver.url("/hook")), first=count)
        count += 1
        deliver(engine)
        headers, body = receiver.posts["/hook"][-1]
        assert len(receiver.posts["/hook"]) == count
        return [_verifies(secret, headers, body) for secret in secrets.split()]

    return post


def _verifies(secret: str, headers: Any, body: bytes) -> bool:
    try:
        Webhook(secret).verify(body, dict(headers))
    except WebhookVerificationError:
        return False
    return True


def test_a_clients_own_secret_takes_the_place_of_the_general_one(
    engine: sa.Engine, accepted: Accepted
) -> None:
    # Given a client that gets a secret of its own, with a grace time for the general one
    other = operation.rotate(engine, "search", 0, actor="tests")
    first = operation.rotate(engine, "billing", 3_600, actor="tests")
    assert accepted(f"{first} {WEBHOOK_SECRET} {other}") == [True, True, False]

    # When it is rotated without one, Then the new one signs alone
    second = operation.rotate(engine, "billing", 0, actor="tests")
    assert accepted(f"{second} {first} {WEBHOOK_SECRET}") == [True, False, False]

    # When it is dropped with one, Then the general one signs, and for that time its own
    assert operation.drop(engine, "billing", 3_600, actor="tests")
    assert accepted(f"{second} {WEBHOOK_SECRET}") == [True, True]
    assert not operation.drop(engine, "billing", 0, actor="tests")
    assert accepted(f"{second} {WEBHOOK_SECRET}") == [False, True]


def test_both_signatures_are_in_one_header_the_newest_first(
    engine: sa.Engine, accepted: Accepted, receiver: Receiver
) -> None:
    first = operation.rotate(engine, "billing", 0, actor="tests")
    second = operation.rotate(engine, "billing", 3_600, actor="tests")

    assert accepted(f"{first} {second}") == [True, True]
    [(headers, _)] = receiver.posts["/hook"]
    assert [part[:3] for part in headers["webhook-signature"].split(" ")] == ["v1,", "v1,"]
    with read(engine) as connection:
        assert webhook_secrets.load(connection, now()) == {"billing": [second, first]}
        assert webhook_secrets.since(connection, "billing") is not None
        assert webhook_secrets.since(connection, "search") is None


def test_a_secret_whose_grace_time_is_over_signs_no_longer(engine: sa.Engine) -> None:
    at = now()
    with write(engine) as connection:
        webhook_secrets.rotate(connection, "billing", "whsec_1", Milliseconds(at + 10), at)
        webhook_secrets.rotate(connection, "billing", "whsec_2", Milliseconds(at + 20), Milliseconds(at + 5))

        assert webhook_secrets.load(connection, Milliseconds(at + 9)) == {
            "billing": ["whsec_2", "whsec_1", ""]
        }
        assert webhook_secrets.load(connection, Milliseconds(at + 10)) == {"billing": ["whsec_2", "whsec_1"]}
        assert webhook_secrets.load(connection, Milliseconds(at + 20)) == {"billing": ["whsec_2"]}
        webhook_secrets.drop(connection, "billing", Milliseconds(at + 30))
        assert webhook_secrets.load(connection, Milliseconds(at + 29)) == {"billing": ["", "whsec_2"]}
        assert webhook_secrets.load(connection, Milliseconds(at + 30)) == {}


def test_what_is_no_client_or_no_grace_time_is_refused(engine: sa.Engine) -> None:
    with pytest.raises(ClientNameInvalid, match="client 'no name': must be"):
        operation.rotate(engine, "no name", actor="tests")
    for grace in (-1, 10**9):
        with pytest.raises(GraceInvalid):
            operation.rotate(engine, "billing", grace, actor="tests")


@pytest.mark.usefixtures("command_line", "engine")
def test_the_command_shows_a_secret_once() -> None:
    result = run("clients", "rotate-secret", "billing", "--grace", "7d")
    assert result.exit_code == 0
    assert result.stdout.startswith("whsec_")
    again = json.loads(succeeded("clients", "rotate-secret", "billing", "--json"))
    assert (again["client"], again["grace"], again["secret"] + "\n" == result.stdout) == (
        "billing",
        86_400.0,
        False,
    )

    assert "Dropped" in succeeded("clients", "drop-secret", "billing")
    assert "none of its own" in succeeded("clients", "drop-secret", "billing")
