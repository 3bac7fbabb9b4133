"""What each route does, takes and answers."""

from __future__ import annotations

from carpool.keywords import DEADLINE_POLICIES
from carpool_worker.gateway.openapi.described import (
    BODY_ERRORS,
    EVENTS,
    JSON,
    LIMIT,
    Documented,
    as_json,
    header,
    path_id,
    query,
)
from carpool_worker.gateway.openapi.key_routes import KEY_OPERATIONS
from carpool_worker.gateway.openapi.schemas import COST_HEADERS, REQUEST_ID
from carpool_worker.gateway.openapi.types import WHOLE, one_of

PAGES = (
    query("limit", "How many at most.", LIMIT),
    query("after_id", "What follows this one in the list."),
    query("before_id", "What precedes this one in the list."),
)
VERSION = header("anthropic-version", "Any version of the API is accepted.")
API_VERSION = header("anthropic-version", "The version of the API.", one_of("2023-06-01", "2026-10-21"))
BETA = header("anthropic-beta", "Beta features; only requests with the same ones share a batch.")
PROFILE = header("anthropic-user-profile-id", "The end customer that a request is for.")
WORKSPACE = header("anthropic-workspace-id", "A workspace, where the key may choose one.")
CALLBACK = header("X-Carpool-Callback", "Where the answer goes: an https URL, or task:NAME@QUEUE.")
MESSAGE_HEADERS = (
    VERSION,
    BETA,
    PROFILE,
    WORKSPACE,
    CALLBACK,
    header("Idempotency-Key", "The same key is the same request, which runs, and is paid for, once."),
    header("Prefer", "respond-async answers with 202; wait=N waits N seconds before it does (RFC 7240)."),
    header("X-Carpool-Metadata", "JSON that comes back with the answer."),
    header(
        "X-Carpool-Max-Wait",
        "Seconds until the request is sent to the API at the latest.",
        {"type": "number"},
    ),
    header("X-Carpool-Deadline", "When the answer is due: seconds from now, or a time as RFC 3339 has it."),
    header("X-Carpool-Deadline-Policy", "What that may cost.", one_of(*DEADLINE_POLICIES)),
    header("X-Carpool-Priority", "-100 to 100, within the range of the key.", WHOLE),
    header("traceparent", "A W3C trace context, which the callback receives."),
)
CREATE_HEADERS = {
    "anthropic-version",
    "anthropic-beta",
    "anthropic-user-profile-id",
    "anthropic-workspace-id",
    "X-Carpool-Callback",
    "Idempotency-Key",
    "X-Carpool-Priority",
}
# What a request can end with, besides its Message.
OUTCOMES = (400, 402, 403, 404, 409, 413, 429, 500, 502, 504, 529)
FOLLOWED = {202: as_json("OpenRequest"), 200: as_json("EndedRequest")}

BATCH = path_id("A batch of the client's.")
BATCH_OPERATIONS: dict[tuple[str, str], Documented] = {
    ("POST", "/v1/messages/batches"): Documented(
        "Create a batch; params that break a rule become errored results",
        {200: as_json("MessageBatch")},
        body="BatchCreate",
        parameters=tuple(one for one in MESSAGE_HEADERS if one["name"] in CREATE_HEADERS),
        errors=(*BODY_ERRORS, 415, 422, 429, 529),
        headers=COST_HEADERS,
    ),
    ("GET", "/v1/messages/batches"): Documented(
        "List the client's batches, newest first",
        {200: as_json("MessageBatchPage")},
        parameters=(*PAGES, VERSION),
        errors=(400, 404),
    ),
    ("GET", "/v1/messages/batches/{id}"): Documented(
        "Show a batch, as it was two seconds ago at most",
        {200: as_json("MessageBatch")},
        parameters=(BATCH, VERSION),
        errors=(404,),
        headers=COST_HEADERS,
    ),
    ("DELETE", "/v1/messages/batches/{id}"): Documented(
        "Delete a batch that has ended",
        {200: as_json("DeletedMessageBatch")},
        parameters=(BATCH, VERSION),
        errors=(400, 404),
    ),
    ("POST", "/v1/messages/batches/{id}/cancel"): Documented(
        "Cancel a batch; what was not sent costs nothing",
        {200: as_json("MessageBatch")},
        parameters=(BATCH, VERSION),
        errors=(400, 404),
    ),
    ("GET", "/v1/messages/batches/{id}/results"): Documented(
        "Read the results of a batch that has ended, a JSON line for each request",
        {200: {"application/x-jsonl": "BatchResults"}},
        parameters=(BATCH, VERSION),
        errors=(404,),
    ),
}

OPERATIONS: dict[tuple[str, str], Documented] = {
    **BATCH_OPERATIONS,
    ("POST", "/v1/messages"): Documented(
        "Ask for a Message: held until its answer is there, streamed, or followed by its id",
        {200: {JSON: "Message", EVENTS: "Events"}, 202: as_json("OpenRequest")},
        body="MessageParams",
        parameters=MESSAGE_HEADERS,
        errors=(408, 415, 422, *OUTCOMES),
        headers={"x-carpool-request-id": REQUEST_ID, **COST_HEADERS},
    ),
    ("POST", "/v1/messages/count_tokens"): Documented(
        "Count the tokens of a prompt, for nothing",
        {200: as_json("TokenCount")},
        body="Prompt",
        parameters=(API_VERSION, BETA, WORKSPACE),
        errors=(*BODY_ERRORS, 404, 429, 500, 502, 504, 529),
    ),
    ("GET", "/v1/models"): Documented(
        "List the models that the key may use, newest first",
        {200: as_json("ModelPage")},
        parameters=(*PAGES, API_VERSION, BETA, WORKSPACE),
        errors=(400, 404, 429, 500, 502, 504, 529),
    ),
    ("GET", "/v1/models/{id}"): Documented(
        "Show a model, by its id or its alias",
        {200: as_json("Model")},
        parameters=(path_id("A model."), API_VERSION, BETA, WORKSPACE),
        errors=(400, 404, 429, 500, 502, 504, 529),
    ),
    ("GET", "/v1/carpool/requests"): Documented(
        "List the client's newest requests",
        {200: as_json("RequestPage")},
        parameters=(
            query("limit", "How many at most.", LIMIT),
            query("before", "Requests older than this one.", REQUEST_ID),
            query("after", "Requests newer than this one.", REQUEST_ID),
        ),
        errors=(400, 404),
    ),
    ("GET", "/v1/carpool/requests/{id}"): Documented(
        "Follow a request: 202 while it is open, then what its webhook gets",
        FOLLOWED,
        parameters=(
            path_id("A request of the client's.", REQUEST_ID),
            header("Prefer", "wait=N waits up to N seconds for its end (RFC 7240)."),
        ),
        errors=(404,),
    ),
    ("POST", "/v1/carpool/requests/{id}/cancel"): Documented(
        "Cancel a request",
        FOLLOWED,
        parameters=(path_id("A request of the client's.", REQUEST_ID),),
        errors=(404,),
    ),
    **KEY_OPERATIONS,
    ("GET", "/"): Documented("Look whether anybody is here", {200: as_json("Gateway")}, has_key=False),
    ("GET", "/healthz"): Documented("Look whether the process lives", {200: as_json("Alive")}, has_key=False),
    ("GET", "/readyz"): Documented(
        "Look whether calls are taken", {200: as_json("Readiness"), 503: as_json("Readiness")}, has_key=False
    ),
    ("GET", "/openapi.json"): Documented("Read this document", {200: as_json("Document")}, has_key=False),
}
