"""What a key has used, what its holder may do, and the keys of all, over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.agents import MODEL, request
from tests.fixtures.gateway import ON_BOTH, SCOPES, WorkingCarpool, new_key
from tests.fixtures.gateway_calls import Reply, call, get, post
from tests.fixtures.waiting import until

from carpool_worker.policies.keys import is_well_formed
from carpool_worker.simulator import RemoteSimulator

ADMIN = {"client": "operators", "scopes": ["admin"]}


def send(gateway: str, secret: str, method: str, path: str, body: Any = None) -> Reply:
    return call(gateway, secret, method, path, None if body is None else json.dumps(body).encode())


@ON_BOTH
def test_a_key_sees_what_it_has_used_to_the_last_digit_and_no_other_does(
    gateway: str,
    gateway_engine: sa.Engine,
    secret: str,
    working_carpool: WorkingCarpool,
    simulator: RemoteSimulator,
) -> None:
    # Given two keys of one client, and answers for one of them
    other = new_key(gateway_engine, name="second")
    answers = [post(gateway, secret, request(f"{number}")) for number in range(3)]

    # When their holders ask
    found = get(gateway, secret, "/v1/carpool/usage").json
    of_other = get(gateway, other, "/v1/carpool/usage?by=model").json

    # Then each sees its own
    cost = sum(Decimal(answer.headers["x-carpool-cost"]) for answer in answers)
    today = datetime.now(UTC).date().isoformat()
    [row] = found["data"]
    assert (row["day"], row["model"], row["requests"]) == (today, MODEL, 3)
    assert (Decimal(row["cost"]), Decimal(row["saved"]), row["unpriced"]) == (cost, cost, 0)
    assert Decimal(row["list_price"]) == 2 * cost
    assert found["total"]["requests"] == 3
    assert row["output_tokens"] == simulator.ledger()["tokens_by_model"][MODEL]["output_tokens"]
    assert (of_other["data"], of_other["total"]["requests"]) == ([], 0)


def test_days_and_dimensions_are_chosen_and_checked(gateway: str, secret: str) -> None:
    one_day = get(gateway, secret, "/v1/carpool/usage?since=2026-11-01&until=2026-11-01&by=model").json
    assert (one_day["since"], one_day["until"], one_day["data"]) == ("2026-11-01", "2026-11-01", [])

    for query, said in (
        ("since=yesterday", "since: must be a day (UTC), as 2026-11-22"),
        ("until=2026-13-01", "until: must be a day"),
        ("since=2026-11-02&until=2026-11-01", "since: must not be after until"),
        ("by=client", "by: must be one or more of day, model"),
        ("by=day,day", "by: "),
        ("by=", "by: "),
    ):
        refused = get(gateway, secret, f"/v1/carpool/usage?{query}")
        assert (refused.status, said in refused.json["error"]["message"]) == (400, True), query


@ON_BOTH
def test_me_says_what_the_key_may_do_and_what_is_left_of_its_budget(
    gateway: str, gateway_engine: sa.Engine, working_carpool: WorkingCarpool
) -> None:
    secret = new_key(gateway_engine, day="5", month="100", models=["claude-haiku-*"], most_held=3)
    assert post(gateway, secret, request()).status == 200

    me = get(gateway, secret, "/v1/carpool/me").json

    assert (me["name"], me["client"], me["state"]) == ("tests", "tests", "valid")
    assert (me["models"], me["most_held"], me["scopes"]) == (["claude-haiku-*"], 3, sorted(SCOPES))
    budget = me["budget"]
    assert (budget["day"]["limit"], budget["month"]["limit"], budget["over"]) == ("5", "100", "refuse")
    assert Decimal(budget["left"]) == 5 - Decimal(budget["day"]["spent"]) - Decimal(budget["reserved"])
    assert secret not in json.dumps(me)
    assert get(gateway, new_key(gateway_engine, name="free"), "/v1/carpool/me").json["budget"] is None


@ON_BOTH
def test_an_admin_makes_changes_rotates_and_revokes_keys(
    gateway: str, gateway_engine: sa.Engine, working_carpool: WorkingCarpool
) -> None:
    admin = new_key(gateway_engine, **ADMIN)

    # When a key is made, Then it works
    made = send(gateway, admin, "POST", "/admin/v1/keys", {"client": "billing", "day": 5, "most_held": 9})
    first = made.json["secret"]
    assert (made.status, made.json["name"], made.json["budget"]["left"]) == (201, "billing", "5")
    assert made.headers["cache-control"] == "no-store"
    assert is_well_formed(first)
    assert post(gateway, first, request()).status == 200
    assert [key["name"] for key in get(gateway, admin, "/admin/v1/keys?client=billing").json["data"]] == [
        "billing"
    ]

    # When it is changed, Then the rest stays
    changed = send(gateway, admin, "PATCH", "/admin/v1/keys/billing", {"models": ["claude-opus-*"]})
    assert (changed.status, changed.json["most_held"]) == (200, 9)
    assert post(gateway, first, request()).status == 403
    send(gateway, admin, "PATCH", f"/admin/v1/keys/{made.json['id']}", {"models": []})

    # When it is rotated without a grace time, Then only the new secret is good
    rotated = send(gateway, admin, "POST", "/admin/v1/keys/billing/rotate", {"grace": 0})
    second = rotated.json["secret"]
    assert [get(gateway, one, "/v1/carpool/me").status for one in (first, second)] == [401, 200]

    # When it is revoked, Then no secret is, and it stays revoked
    for _ in range(2):
        revoked = send(gateway, admin, "DELETE", "/admin/v1/keys/billing")
        assert (revoked.status, revoked.json["state"]) == (200, "revoked")
    assert get(gateway, second, "/v1/carpool/me").status == 401
    assert get(gateway, admin, "/admin/v1/keys?client=billing").json["data"] == []
    everything = get(gateway, admin, "/admin/v1/keys?revoked=true")
    assert {key["name"] for key in everything.json["data"]} == {"billing", "operators"}
    assert first.encode() not in everything.body

    usage = get(gateway, admin, "/admin/v1/usage?by=client,key&client=billing").json
    assert [(row["client"], row["key"], row["requests"]) for row in usage["data"]] == [
        ("billing", "billing", 1)
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "/admin/v1/keys", {}, 400, "client: "),
        ("POST", "/admin/v1/keys", {"client": "a", "colour": 1}, 400, "colour: there is no such field"),
        ("POST", "/admin/v1/keys", {"client": "a", "day": -1}, 400, "day: "),
        ("POST", "/admin/v1/keys", {"client": "operators"}, 409, "there is a key 'operators' already"),
        ("POST", "/admin/v1/keys", {"client": "a", "scopes": ["admin"]}, 403, "`carpool keys` alone"),
        (
            "POST",
            "/admin/v1/keys",
            {"client": "a", "scopes": ["messages", "reveal"]},
            403,
            "`carpool keys` alone",
        ),
        ("PATCH", "/admin/v1/keys/tests", {"scopes": ["admin"]}, 403, "`carpool keys` alone"),
        ("PATCH", "/admin/v1/keys/operators", {"day": 1}, 403, "`carpool keys` alone"),
        ("POST", "/admin/v1/keys/operators/rotate", None, 403, "`carpool keys` alone"),
        ("PATCH", "/admin/v1/keys/tests", {"client": "b"}, 400, "client: can't be changed"),
        ("POST", "/admin/v1/keys/tests/rotate", {"grace": -1}, 400, "grace: must be from 0"),
        ("POST", "/admin/v1/keys/tests/rotate", {"grace": "soon"}, 400, "grace: must be a number"),
        ("POST", "/admin/v1/keys/tests/rotate", {"after": 1}, 400, "after: there is no such field"),
        ("GET", "/admin/v1/keys/nobody", None, 404, "Key not found"),
        ("GET", "/admin/v1/keys?revoked=maybe", None, 400, "revoked: must be true or false"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_reason(
    gateway: str,
    gateway_engine: sa.Engine,
    secret: str,
    method: str,
    path: str,
    body: Any,
    status: int,
    said: str,
) -> None:
    refused = send(gateway, new_key(gateway_engine, **ADMIN), method, path, body)

    assert (refused.status, said in refused.json["error"]["message"]) == (status, True), refused.json


def test_only_admins_get_at_keys_and_everybodys_usage(gateway: str, secret: str) -> None:
    for method, path in (
        ("GET", "/admin/v1/keys"),
        ("POST", "/admin/v1/keys"),
        ("GET", "/admin/v1/keys/tests"),
        ("DELETE", "/admin/v1/keys/tests"),
        ("GET", "/admin/v1/usage"),
    ):
        refused = send(gateway, secret, method, path, {} if method == "POST" else None)
        assert (refused.status, refused.error_type) == (403, "permission_error")


def test_a_keys_last_use_is_known(gateway: str, gateway_engine: sa.Engine, secret: str) -> None:
    admin = new_key(gateway_engine, **ADMIN)

    def last_used() -> Any:
        return get(gateway, admin, "/admin/v1/keys/tests").json["last_used_at"]

    assert last_used() is None
    get(gateway, secret, "/v1/carpool/me")
    until(lambda: last_used() is not None)
