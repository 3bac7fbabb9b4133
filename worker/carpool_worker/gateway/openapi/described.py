"""How a route is described: what it does, takes and answers."""

from __future__ import annotations

from typing import NamedTuple

from carpool_worker.gateway.openapi.types import TEXT, Schema

JSON, EVENTS = "application/json", "text/event-stream"

BODY_ERRORS = (400, 408, 413)
KEYED_ERRORS = (401, 403, 503)
"""No valid key, one without the scope, and a database or Redis that is away."""


class Documented(NamedTuple):
    """A route: what it answers by status, with the names of schemas by media type, and what it takes."""

    summary: str
    answers: dict[int, dict[str, str]]
    body: str | None = None
    parameters: tuple[Schema, ...] = ()
    errors: tuple[int, ...] = ()
    headers: dict[str, Schema] | None = None
    has_key: bool = True
    needs_body: bool = True  # where it takes one


def header(name: str, description: str, schema: Schema = TEXT) -> Schema:
    """Return a header that a call may have."""
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def query(name: str, description: str, schema: Schema = TEXT) -> Schema:
    """Return a parameter of the query."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def path_id(description: str, schema: Schema = TEXT) -> Schema:
    """Return the id in a path."""
    return {"name": "id", "in": "path", "required": True, "description": description, "schema": schema}


def as_json(name: str) -> dict[str, str]:
    """Return what an answer of JSON has."""
    return {JSON: name}


LIMIT: Schema = {"type": "integer", "minimum": 1, "maximum": 1_000, "default": 20}
