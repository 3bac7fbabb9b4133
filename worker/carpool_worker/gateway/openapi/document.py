"""The document: OpenAPI 3.1, made once from what the modules beside this one say."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any

from aiohttp import web

from carpool.contract import to_json
from carpool_worker.gateway.answering import json_answer
from carpool_worker.gateway.openapi.described import JSON, KEYED_ERRORS, Documented
from carpool_worker.gateway.openapi.key_routes import KEY_SCHEMAS
from carpool_worker.gateway.openapi.operations import OPERATIONS
from carpool_worker.gateway.openapi.schemas import SCHEMAS, ref
from carpool_worker.gateway.openapi.types import TEXT, Schema

UNUSUAL = {529: "Overloaded"}
"""Statuses of Anthropic's own."""

PLAIN: dict[str, Schema] = {
    "Events": {"type": "string", "description": "The events of the Message, or an error event."},
}
"""What is no single JSON value."""

SECURITY: dict[str, Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of Carpool's: cr_…"},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


async def show(request: web.Request) -> web.StreamResponse:
    """Answer /openapi.json."""
    return json_answer(_encoded())


def document() -> dict[str, Any]:
    """Return the document as JSON's own types."""
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), documented in OPERATIONS.items():
        paths.setdefault(path, {})[method.lower()] = _operation(documented)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Carpool's gateway",
            "version": "1",
            "description": "Anthropic's Messages API, answered from Message Batches at half the price.",
        },
        "paths": paths,
        "components": {"schemas": {**SCHEMAS, **KEY_SCHEMAS, **PLAIN}, "securitySchemes": SECURITY},
    }


@cache
def _encoded() -> bytes:
    return to_json(document())


def _operation(documented: Documented) -> dict[str, Any]:
    errors = {
        *documented.errors,
        *(KEYED_ERRORS if documented.has_key else ()),
        500,
    } - documented.answers.keys()
    answers = {
        str(status): _answer(status, kinds, documented) for status, kinds in documented.answers.items()
    }
    refusals = {str(status): _answer(status, {JSON: "Error"}) for status in sorted(errors)}
    operation: dict[str, Any] = {"summary": documented.summary, "responses": answers | refusals}
    if documented.parameters:
        operation["parameters"] = list(documented.parameters)
    if documented.body:
        operation["requestBody"] = {
            "required": documented.needs_body,
            "content": {JSON: {"schema": ref(documented.body)}},
        }
    if documented.has_key:
        operation["security"] = [{name: []} for name in SECURITY]
    return operation


def _answer(status: int, kinds: dict[str, str], documented: Documented | None = None) -> dict[str, Any]:
    own = documented.headers if documented and status == HTTPStatus.OK else None
    named = {"request-id": TEXT, **(own or {})}
    return {
        "description": UNUSUAL.get(status) or HTTPStatus(status).phrase,
        "headers": {name: {"schema": schema} for name, schema in named.items()},
        "content": {kind: {"schema": ref(name)} for kind, name in kinds.items()},
    }
