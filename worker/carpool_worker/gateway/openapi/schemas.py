"""The values that routes take and answer, by their names in the document. All of Carpool's own are closed."""

from __future__ import annotations

from carpool.contract import Answer
from carpool_worker.gateway.openapi.types import (
    DOLLARS,
    MOMENT,
    TEXT,
    WHOLE,
    Schema,
    closed,
    list_of,
    nullable,
    one_of,
    schema_of,
)
from carpool_worker.views.requests import RequestView

AS_THE_API = "https://platform.claude.com/docs/en/api"
"""Where Anthropic describes what is passed through as it stands."""

REQUEST_ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{32}$"}


def ref(name: str) -> Schema:
    """Return a reference to one of these."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(description: str, one: Schema) -> Schema:
    """Return the schema of a page of Anthropic's lists."""
    return closed(
        description,
        data=list_of(one),
        has_more={"type": "boolean"},
        first_id=nullable(TEXT),
        last_id=nullable(TEXT),
    )


MESSAGE: Schema = {
    "type": "object",
    "description": f"A Message, byte for byte as the API wrote it: {AS_THE_API}/messages/create",
    "properties": {
        "id": TEXT,
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "model": TEXT,
        "content": list_of({"type": "object", "required": ["type"], "properties": {"type": TEXT}}),
        "stop_reason": nullable(TEXT),
        "usage": {"type": "object"},
    },
    "required": ["id", "type", "role", "model", "content", "stop_reason", "usage"],
}

PROMPT: Schema = {
    "type": "object",
    "description": f"Params of the Messages API: {AS_THE_API}/messages/create",
    "properties": {
        "model": {"type": "string", "minLength": 1, "examples": ["claude-haiku-4-5"]},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "role": one_of("user", "assistant"),
                    "content": {"anyOf": [{"type": "string", "minLength": 1}, list_of({"type": "object"})]},
                },
                "required": ["role", "content"],
            },
        },
    },
    "required": ["model", "messages"],
}

PARAMS: Schema = {
    **PROMPT,
    "properties": {
        **PROMPT["properties"],
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 300_000},
        "stream": {"type": "boolean"},
    },
    "required": ["model", "max_tokens", "messages"],
}

ERROR_TYPES = (
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "timeout_error",
    "overloaded_error",
)

DETAIL = closed("What is wrong.", type=one_of(*ERROR_TYPES), message=TEXT)
ERROR = closed("An error, as the API writes it.", type={"const": "error"}, error=DETAIL, request_id=TEXT)

MODEL: Schema = {
    "type": "object",
    "description": f"A model, as the API describes it: {AS_THE_API}/models",
    "properties": {"id": TEXT, "type": {"const": "model"}, "display_name": TEXT, "created_at": MOMENT},
    "required": ["id", "type", "display_name", "created_at"],
}

# In an answer, what is absent is left out or null.
ANSWER = schema_of(Answer)

OUTCOMES = ("processing", "succeeded", "errored", "canceled", "expired")
BATCH_ID: Schema = {"type": "string", "pattern": "^msgbatch_01[0-9A-Za-z]{22}$"}
BATCH = closed(
    "A batch of a client, as the API has it.",
    id=BATCH_ID,
    type={"const": "message_batch"},
    processing_status=one_of("in_progress", "canceling", "ended"),
    request_counts=closed("Its requests.", **dict.fromkeys(OUTCOMES, WHOLE)),
    created_at=MOMENT,
    expires_at=MOMENT,
    ended_at=nullable(MOMENT),
    cancel_initiated_at=nullable(MOMENT),
    archived_at=nullable(MOMENT),
    results_url=nullable(TEXT),
)
BATCH_ITEM = closed(
    "A request, with a name that is unique in the batch.",
    custom_id={"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
    params={
        "type": "object",
        "description": "Params of the Messages API, checked late.",
        "additionalProperties": True,
    },
)

SCHEMAS: dict[str, Schema] = {
    "MessageBatch": BATCH,
    "MessageBatchPage": page_of("A page of batches, newest first.", ref("MessageBatch")),
    "BatchCreate": closed(
        "Requests of a batch.",
        requests={"type": "array", "items": BATCH_ITEM, "minItems": 1, "maxItems": 100_000},
    ),
    "DeletedMessageBatch": closed(
        "A batch that is gone.", id=BATCH_ID, type={"const": "message_batch_deleted"}
    ),
    "BatchResults": {"type": "string", "description": 'Lines of {"custom_id": …, "result": …}, in no order.'},
    "Error": ERROR,
    "Message": MESSAGE,
    "MessageParams": PARAMS,
    "Prompt": PROMPT,
    "TokenCount": {"type": "object", "properties": {"input_tokens": WHOLE}, "required": ["input_tokens"]},
    "Model": MODEL,
    "ModelPage": page_of("A page of models, newest first.", ref("Model")),
    "OpenRequest": closed(
        "A request that has not ended.", id=REQUEST_ID, type={"const": "carpool_request"}, state=TEXT
    ),
    "EndedRequest": closed(
        "A request that has ended: what its webhook gets.",
        type=one_of("request.completed", "request.discarded", "request.canceled"),
        timestamp=MOMENT,
        data=ANSWER,
    ),
    "RequestPage": closed(
        "Requests of the client, oldest first.",
        data=list_of(schema_of(RequestView)),
        has_more={"type": "boolean"},
    ),
    "Gateway": closed("Who answers here.", type={"const": "carpool_gateway"}),
    "Alive": closed("This process answers.", status={"const": "ok"}),
    "Readiness": closed(
        "Whether calls are taken, and what is missing.",
        status=one_of("ok", "unavailable"),
        missing=list_of(one_of("redis", "database", "draining")),
    ),
    "Document": {"type": "object", "required": ["openapi", "paths"], "properties": {"openapi": TEXT}},
}
COST_HEADERS: dict[str, Schema] = {"x-carpool-cost": DOLLARS, "x-carpool-saved": DOLLARS}
