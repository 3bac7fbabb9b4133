"""/openapi.json says what the gateway does: it has every route, and schemathesis finds no answer beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import FailureGroup
from tests.fixtures.gateway import RunGateway, WorkingCarpool, new_key
from tests.fixtures.gateway_calls import call, get

from carpool_worker.gateway.openapi import document
from carpool_worker.gateway.openapi.operations import OPERATIONS
from carpool_worker.gateway.routes import OPEN, ROUTES, OpenRoute, Route
from carpool_worker.simulator import RemoteSimulator

PASSED_THROUGH = {"Message", "MessageParams", "Prompt", "TokenCount", "Model", "Document"}
"""Components that are the API's own, whose fields are not ours to close, and the document itself."""

EXAMPLES = 12
"""Calls that are made of each operation, of each kind: as it asks for, and otherwise."""

UNDECIDABLE = [checks.ignored_auth, checks.positive_data_acceptance]
"""What schemathesis can't know: that a key counts in either of two headers, and which params and cursors are right."""

SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def test_every_route_is_described_and_nothing_else() -> None:
    routes = [(route.method, route.path) for route in ROUTES]
    open_routes = [(route.method, route.path) for route in OPEN]
    assert sorted(routes + open_routes) == sorted(OPERATIONS)
    for route in ROUTES:
        assert OPERATIONS[route.method, route.path].has_key
    for open_route in OPEN:
        assert not OPERATIONS[open_route.method, open_route.path].has_key


def test_the_document_is_valid_and_is_what_is_served(gateway: str) -> None:
    schemathesis.openapi.from_dict(document()).validate()
    assert get(gateway, "", "/openapi.json").json == json.loads(json.dumps(document()))


def test_all_objects_of_carpools_own_are_closed() -> None:
    for name, schema in document()["components"]["schemas"].items():
        if name not in PASSED_THROUGH:
            assert [part for part in objects(schema) if "additionalProperties" not in part] == [], name


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the schemas of objects that name their properties, in a schema."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def attack(url: str, label: str, mode: GenerationMode, secret: str) -> None:
    """Make calls of one operation as its description has them; raises if an answer is not as that says."""
    schema = schemathesis.openapi.from_dict(document())
    described: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    [operation] = [one for one in described if one.label == label]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.headers):
        return

    @SETTINGS
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        excluded = UNDECIDABLE if operation.body or operation.query else UNDECIDABLE[:1]
        sent = {"x-api-key": secret}
        case.call_and_validate(base_url=url, headers=sent, timeout=60, excluded_checks=excluded)

    run()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("label", [f"{method} {path}" for method, path in OPERATIONS])
def test_no_answer_is_other_than_described(
    gateway: str, secret: str, working_carpool: WorkingCarpool, label: str, mode: GenerationMode
) -> None:
    if " /admin/" in label:
        secret = new_key(working_carpool.engine, client="operators", scopes=["admin"])
    attack(gateway, label, mode, secret)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_without_a_key_no_route_answers(gateway: str, route: Route) -> None:
    answer = call(gateway, "", route.method, route.path.replace("{id}", "0" * 32), b"")
    assert (answer.status, answer.error_type) == (401, "authentication_error")


def test_a_deviation_is_found(
    run_gateway: RunGateway, secret: str, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a route that answers with a field more than the document has
    async def deviating(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "more": True})

    monkeypatch.setattr("carpool_worker.gateway.app.OPEN", [OpenRoute("GET", "/healthz", deviating)])
    with run_gateway() as url, pytest.raises(FailureGroup) as found:
        attack(url, "GET /healthz", GenerationMode.POSITIVE, secret)
    assert "Additional properties are not allowed" in str(found.value.exceptions[0])
