"""What the routes about keys and usage do, take and answer."""

from __future__ import annotations

from carpool.contract import CLIENT_NAME, MAX_WAIT
from carpool.keywords import DEADLINE_POLICIES
from carpool_worker.gateway.openapi.described import BODY_ERRORS, Documented, as_json, path_id, query
from carpool_worker.gateway.openapi.types import (
    DOLLARS,
    TEXT,
    WHOLE,
    Schema,
    closed,
    list_of,
    nullable,
    one_of,
    schema_of,
)
from carpool_worker.policies.keys import OPERATORS, Scope
from carpool_worker.views.keys import KeyView

DAY: Schema = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$", "examples": ["2026-11-22"]}
NAME: Schema = {"type": "string", "pattern": f"^{CLIENT_NAME.pattern}$"}
COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": 1_000_000_000}
PRIORITY: Schema = {"type": "integer", "minimum": -100, "maximum": 100}
AMOUNT: Schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1_000_000}, TEXT]}
SCOPE = one_of(*(scope for scope in Scope if scope not in OPERATORS))

DECIDED: dict[str, Schema] = {
    "scopes": {**list_of(SCOPE), "minItems": 1},
    "models": list_of(TEXT),
    "requests_a_minute": nullable(COUNT),
    "most_queued": nullable(COUNT),
    "most_held": nullable(COUNT),
    "day": nullable(AMOUNT),
    "month": nullable(AMOUNT),
    "over": one_of("wait", "refuse"),
    "lowest_priority": PRIORITY,
    "highest_priority": PRIORITY,
    "callback_hosts": list_of(TEXT),
    "workspaces": {"type": "boolean"},
    "deadline": nullable({"type": "integer", "minimum": 1, "maximum": MAX_WAIT}),
    "deadline_policy": nullable(one_of(*DEADLINE_POLICIES)),
    "expires_at": nullable(TEXT),
    "expires_after": nullable({"type": "number", "exclusiveMinimum": 0}),
}

SHOWN = {"type": {"const": "carpool_key"}, **schema_of(KeyView)["properties"]}
PERIOD = closed("A period's limit, and what was spent of it.", limit=DOLLARS, spent=DOLLARS)
BUDGET = nullable(
    closed(
        "A budget, and what is left of it.",
        {"day": PERIOD, "month": PERIOD},
        reserved=DOLLARS,
        over=one_of("wait", "refuse"),
        left=DOLLARS,
    )
)

USED: Schema = closed(
    "What was used; dollars are null where no price is known.",
    {"day": DAY, "model": TEXT, "client": TEXT, "key": TEXT, "account": TEXT, "processing": TEXT},
    requests=WHOLE,
    input_tokens=WHOLE,
    output_tokens=WHOLE,
    cache_write_tokens=WHOLE,
    cache_read_tokens=WHOLE,
    cost=nullable(DOLLARS),
    list_price=nullable(DOLLARS),
    saved=nullable(DOLLARS),
    unpriced=WHOLE,
)

KEY_SCHEMAS: dict[str, Schema] = {
    "Key": closed("A key, and what is left of its budget.", **SHOWN, budget=BUDGET),
    "NewKey": closed("A key with its secret, shown this once.", **SHOWN, budget=BUDGET, begins=TEXT),
    "KeyList": closed(
        "Keys, the oldest first.",
        data=list_of(closed("A key.", **SHOWN)),
        has_more={"type": "boolean"},
    ),
    "KeyTerms": closed("What a key is made with.", {"name": NAME, **DECIDED}, client=NAME),
    "KeyChanges": closed("What is changed of a key; the rest stays.", DECIDED),
    "Rotation": closed(
        "How a key is rotated.", {"grace": {"type": "number", "minimum": 0, "maximum": 7_776_000}}
    ),
    "Usage": closed(
        "What was used from one day to another, both included.",
        type={"const": "carpool_usage"},
        since=DAY,
        until=DAY,
        data=list_of(USED),
        total=USED,
    ),
}

DAYS = (
    query("since", "The first day (UTC); by default 30 days are shown.", DAY),
    query("until", "The last day (UTC), by default today.", DAY),
)
KEY = path_id("A key's name or id.")

KEY_OPERATIONS: dict[tuple[str, str], Documented] = {
    ("GET", "/v1/carpool/usage"): Documented(
        "Show what this key has used",
        {200: as_json("Usage")},
        parameters=(*DAYS, query("by", "Some of day and model, with commas.")),
        errors=(400,),
    ),
    ("GET", "/v1/carpool/me"): Documented("Show what this key may do, and its budget", {200: as_json("Key")}),
    ("GET", "/admin/v1/usage"): Documented(
        "Show what all keys have used",
        {200: as_json("Usage")},
        parameters=(
            *DAYS,
            query("by", "Some of client, key, model, account, processing and day, with commas."),
            query("client", "Only of this client.", NAME),
            query("key", "Only of the key of this name.", NAME),
        ),
        errors=(400,),
    ),
    ("GET", "/admin/v1/keys"): Documented(
        "List the keys",
        {200: as_json("KeyList")},
        parameters=(
            query("client", "Only those of this client.", NAME),
            query("revoked", "Also those that were revoked.", one_of("true", "false")),
        ),
        errors=(400,),
    ),
    ("POST", "/admin/v1/keys"): Documented(
        "Make a key of a client", {201: as_json("NewKey")}, body="KeyTerms", errors=(*BODY_ERRORS, 409)
    ),
    ("GET", "/admin/v1/keys/{id}"): Documented(
        "Show a key", {200: as_json("Key")}, parameters=(KEY,), errors=(404,)
    ),
    ("PATCH", "/admin/v1/keys/{id}"): Documented(
        "Change a key",
        {200: as_json("Key")},
        body="KeyChanges",
        parameters=(KEY,),
        errors=(*BODY_ERRORS, 404, 409),
    ),
    ("DELETE", "/admin/v1/keys/{id}"): Documented(
        "Revoke a key for good", {200: as_json("Key")}, parameters=(KEY,), errors=(404,)
    ),
    ("POST", "/admin/v1/keys/{id}/rotate"): Documented(
        "Give a key a new secret; the one before is good for `grace` seconds, by default a day",
        {200: as_json("NewKey")},
        body="Rotation",
        parameters=(KEY,),
        errors=(*BODY_ERRORS, 404, 409),
        needs_body=False,
    ),
}
