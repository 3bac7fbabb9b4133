"""`carpool keys`: secrets are shown once, what is wrong is named, and repeating does no harm."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import sqlalchemy as sa
from tests.fixtures.command_line import fits_80_columns, rows, run, succeeded

from carpool_worker.commands import completion
from carpool_worker.policies.keys import is_well_formed

pytestmark = pytest.mark.usefixtures("command_line", "engine")


def created(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(succeeded("keys", "create", *arguments, "--json"))
    return found


def test_a_key_is_made_with_all_that_was_asked_for() -> None:
    made = created(
        *("billing", "--name", "nightly", "--scope", "messages, callbacks", "--model", "claude-haiku-*"),
        *("--model", "claude-opus-4-5", "--requests-a-minute", "60", "--most-queued", "1000", "--most-held"),
        *("10", "--day", "5", "--month", "100.50", "--over", "wait", "--lowest-priority", "-5"),
        *(
            "--highest-priority",
            "5",
            "--callback-host",
            "*.example.com",
            "--workspaces",
            "--deadline",
            "2h",
            "--expires-after",
            "8h",
        ),
    )

    secret, begins = made.pop("secret"), made.pop("begins")
    assert is_well_formed(secret)
    assert begins == f"{secret[:11]}…"
    times = {name: made.pop(name) for name in ("id", "created_at")}
    assert re.fullmatch("[0-9a-f]{32}", times["id"])
    assert made == {
        "name": "nightly",
        "client": "billing",
        "state": "valid",
        "scopes": ["callbacks", "messages"],
        "models": ["claude-haiku-*", "claude-opus-4-5"],
        "requests_a_minute": 60,
        "most_queued": 1_000,
        "most_held": 10,
        "day": "5",
        "month": "100.5",
        "over": "wait",
        "lowest_priority": -5,
        "highest_priority": 5,
        "callback_hosts": ["*.example.com"],
        "workspaces": True,
        "deadline": 7_200,
        "deadline_policy": None,
        "expires_at": None,
        "expires_after": 28_800.0,
        "first_used_at": None,
        "last_used_at": None,
        "revoked_at": None,
    }
    [listed] = rows("keys", "list")
    assert listed == made | times | {"secret": begins}


def test_a_secret_is_shown_once_and_alone_on_stdout() -> None:
    result = run("keys", "create", "billing")

    secret = result.stdout.strip()
    assert is_well_formed(secret)
    assert "shown only now" in result.stderr
    for shown in (succeeded("keys", "list"), succeeded("keys", "show", "billing")):
        assert secret[:11] in shown
        assert secret not in shown
        assert fits_80_columns(shown)


def test_creating_again_is_refused_unless_it_is_meant_so() -> None:
    succeeded("keys", "create", "billing")

    refused = run("keys", "create", "billing")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "there is a key 'billing' already" in refused.stderr
    again = run("keys", "create", "billing", "--if-absent")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "is there already" in again.stderr
    assert json.loads(succeeded("keys", "create", "billing", "--if-absent", "--json"))["secret"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no spaces",), "client: must be 1 to 64 letters"),
        (("billing", "--scope", "everything"), "scopes"),
        (("billing", "--day", "much"), "day: "),
        (("billing", "--over", "maybe"), "over: "),
        (("billing", "--callback-host", "example.com"), "callback_hosts needs the scope callbacks"),
        (("billing", "--expires-after", "soon"), "--expires-after soon: write 90s, 15m"),
        (("billing", "--expires", "yesterday"), "yesterday: write 12h, 30d or 2w from now"),
        (("billing", "--expires", "2020-01-01"), "2020-01-01: must be in the future"),
    ],
)
def test_what_breaks_a_rule_is_named_and_no_key_is_made(arguments: tuple[str, ...], said: str) -> None:
    refused = run("keys", "create", *arguments)

    assert refused.exit_code != 0
    assert said in " ".join(refused.stderr.replace("│", " ").split())
    assert rows("keys", "list") == []


def test_a_key_is_rotated_and_revoked(engine: sa.Engine) -> None:
    first = created("billing")
    second = json.loads(succeeded("keys", "rotate", "billing", "--grace", "12h", "--json"))
    assert is_well_formed(second["secret"])
    assert (second["secret"] != first["secret"], second["id"]) == (True, first["id"])

    succeeded("keys", "revoke", "billing", "--yes")

    assert "revoked before" in succeeded("keys", "revoke", "billing", "--yes")
    assert "was revoked, for good" in run("keys", "rotate", "billing").stderr
    assert "there is no key 'nobody'" in run("keys", "show", "nobody").stderr
    assert rows("keys", "list") == []
    assert [row["state"] for row in rows("keys", "list", "--revoked")] == ["revoked"]


def test_revoking_asks_first() -> None:
    succeeded("keys", "create", "billing")

    assert run("keys", "revoke", "billing", answer="n\n").exit_code == 1
    assert [row["state"] for row in rows("keys", "list")] == ["valid"]


def test_keys_are_listed_by_client_and_completed_by_name() -> None:
    succeeded("keys", "create", "billing")
    succeeded("keys", "create", "search")

    assert [row["name"] for row in rows("keys", "list", "--client", "search")] == ["search"]
    assert completion.complete_key("b") == ["billing"]
