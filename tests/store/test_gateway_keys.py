"""The keys of the gateway in the tables: found by the hash of a secret, rotated, revoked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from carpool_worker.database import now, read, write
from carpool_worker.operations import keys as operation
from carpool_worker.operations.keys import GraceInvalid, KeyNameTaken, KeyRevoked, UnknownKey
from carpool_worker.policies.budgets import Budget, Over
from carpool_worker.policies.key_terms import KeyInvalid
from carpool_worker.policies.keys import GatewayKey, Scope, hash_of
from carpool_worker.store import gateway_keys
from carpool_worker.units import SECOND, Milliseconds

EVERYTHING: dict[str, Any] = {
    "client": "billing",
    "name": "nightly",
    "scopes": ["messages", "callbacks"],
    "models": ["claude-haiku-*", "claude-opus-4-5"],
    "requests_a_minute": 60,
    "most_queued": 1_000,
    "most_held": 10,
    "day": "0.000000000001",
    "month": "100",
    "over": "wait",
    "lowest_priority": -5,
    "highest_priority": 5,
    "callback_hosts": ["*.example.com"],
    "workspaces": True,
    "deadline": 7_200,
    "deadline_policy": "batch",
}


def created(engine: sa.Engine, **given: Any) -> tuple[GatewayKey, str]:
    new = operation.create(engine, given, actor="tests")
    assert new.secret is not None
    return new.key, new.secret


def found(engine: sa.Engine, secret: str) -> GatewayKey | None:
    with read(engine) as connection:
        return gateway_keys.find(connection, hash_of(secret))


def test_a_key_is_found_by_its_secret_as_it_was_made(engine: sa.Engine) -> None:
    key, secret = created(engine, **EVERYTHING)

    assert found(engine, secret) == key
    assert (key.name, key.client, key.hint) == ("nightly", "billing", secret[3:11])
    assert key.scopes == {Scope.MESSAGES, Scope.CALLBACKS}
    assert key.models == ("claude-haiku-*", "claude-opus-4-5")
    assert (key.requests_a_minute, key.most_queued, key.most_held) == (60, 1_000, 10)
    assert key.budget == Budget(day=Decimal("1E-12"), month=Decimal(100), over=Over.WAIT)
    assert (key.lowest_priority, key.highest_priority, key.workspaces) == (-5, 5, True)
    assert (key.deadline, key.deadline_policy) == (7_200, "batch")
    assert found(engine, "cr_" + "0" * 43) is None


def test_no_secret_is_in_the_tables(engine: sa.Engine) -> None:
    _, secret = created(engine, client="billing")

    with read(engine) as connection:
        kept = [
            str(value)
            for table in ("gateway_keys", "gateway_secrets")
            for row in connection.execute(sa.text(f"SELECT * FROM {table}"))
            for value in row
        ]
    assert secret[3:11] in kept
    assert not [value for value in kept if secret[3:12] in value]


def test_a_name_is_given_once(engine: sa.Engine) -> None:
    key, secret = created(engine, client="billing")

    with pytest.raises(KeyNameTaken, match="there is a key 'billing' already, of the client 'billing'"):
        created(engine, client="billing")
    with pytest.raises(KeyNameTaken):
        operation.create(engine, {"client": "search", "name": "billing"}, if_absent=True, actor="tests")
    again = operation.create(engine, {"client": "billing"}, if_absent=True, actor="tests")
    assert (again.key, again.secret) == (key, None)
    assert found(engine, secret) == key


def test_a_rotated_keys_secret_before_is_valid_for_the_grace_time(engine: sa.Engine) -> None:
    key, first = created(engine, client="billing")
    second = operation.rotate(engine, "billing", 3_600, actor="tests").secret
    assert second is not None
    for secret in (first, second):
        assert (one := found(engine, secret)) is not None
        assert (one.id, one.hint) == (key.id, second[3:11])

    # When it is rotated again without any, Then none of those before is valid
    third = operation.rotate(engine, key.id, 0, actor="tests").secret
    assert third is not None
    assert (found(engine, first), found(engine, second)) == (None, None)
    assert found(engine, third) is not None
    with pytest.raises(GraceInvalid, match="grace: must be from 0 seconds to 90 days"):
        operation.rotate(engine, "billing", -1, actor="tests")


def test_a_revoked_key_stays_revoked(engine: sa.Engine) -> None:
    _, secret = created(engine, client="billing")

    assert operation.revoke(engine, "billing", actor="tests")
    assert not operation.revoke(engine, "billing", actor="tests")

    key = found(engine, secret)
    assert key is not None
    assert not key.is_valid(now())
    with pytest.raises(KeyRevoked):
        operation.rotate(engine, "billing", actor="tests")
    with pytest.raises(KeyRevoked):
        operation.change(engine, "billing", {"day": 1}, actor="tests")
    with pytest.raises(KeyRevoked):
        operation.create(engine, {"client": "billing"}, if_absent=True, actor="tests")
    with pytest.raises(UnknownKey):
        operation.revoke(engine, "nobody", actor="tests")


def test_a_change_leaves_the_rest_as_it_is(engine: sa.Engine) -> None:
    key, secret = created(engine, **EVERYTHING)

    changed = operation.change(engine, "nightly", {"models": [], "month": None}, actor="tests")

    assert changed.models == ()
    assert changed.budget == Budget(day=Decimal("1E-12"), over=Over.WAIT)
    assert (changed.id, changed.most_held, changed.scopes) == (key.id, key.most_held, key.scopes)
    assert found(engine, secret) == changed
    with pytest.raises(KeyInvalid, match="client, name: can't be changed"):
        operation.change(engine, "nightly", {"client": "other", "name": "x"}, actor="tests")
    with pytest.raises(KeyInvalid, match="most_held"):
        operation.change(engine, "nightly", {"most_held": -1}, actor="tests")
    assert found(engine, secret) == changed


def test_an_expiry_from_the_first_use_begins_with_it(engine: sa.Engine) -> None:
    key, secret = created(engine, client="billing", expires_after=3_600)
    assert key.expires_at is None

    at = now()
    for later in (0, 1_000):
        with write(engine) as connection:
            gateway_keys.touch(connection, {key.id: Milliseconds(at + later)})

    used = found(engine, secret)
    assert used is not None
    assert used.expires_at == at + 3_600 * SECOND
    assert (used.first_used_at, used.last_used_at) == (at, at)  # the second use is within a minute
    fixed = operation.change(engine, "billing", {"expires_at": "2100-01-01T00:00:00Z"}, actor="tests")
    assert (fixed.expires_after, fixed.expires_at) == (None, 4_102_444_800_000)


def test_the_last_use_is_written_once_a_minute(engine: sa.Engine) -> None:
    key, secret = created(engine, client="billing")
    at = now()

    for later, written in ((0, 0), (59_999, 0), (60_000, 60_000)):
        with write(engine) as connection:
            gateway_keys.touch(connection, {key.id: Milliseconds(at + later), "0" * 32: at})
        assert (one := found(engine, secret)) is not None
        assert one.last_used_at == at + written


def test_keys_are_listed_by_client_and_by_budget(engine: sa.Engine) -> None:
    created(engine, client="billing")
    created(engine, client="search", day=1)
    created(engine, client="billing", name="second", month=1)

    with read(engine) as connection:
        assert [key.name for key in gateway_keys.load(connection)] == ["billing", "search", "second"]
        assert [key.name for key in gateway_keys.load(connection, "billing")] == ["billing", "second"]
        assert [key.name for key in gateway_keys.all_with_budgets(connection)] == ["search", "second"]
        assert [key.name for key in gateway_keys.with_budgets(connection, ["second"])] == ["second"]
        assert [key.name for key in gateway_keys.all_with_budgets(connection, "billing")] == ["second"]
        assert gateway_keys.with_budgets(connection, []) == []
