"""What is passed on to the API with the operator's key: which models there are, and how many tokens a prompt has.

Neither costs anything. A key with a list of models sees those alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from carpool.contract import BETA_HEADER, WORKSPACE_HEADER, to_json
from carpool.exceptions import InvalidRequest
from carpool_worker.gateway.answering import json_answer
from carpool_worker.gateway.bodies import read_body, read_object
from carpool_worker.gateway.calls import Call
from carpool_worker.gateway.errors import GatewayError
from carpool_worker.gateway.outcomes import STATUSES, UPSTREAM_KEY
from carpool_worker.policies.accounts import account_of
from carpool_worker.policies.keys import GatewayKey

if TYPE_CHECKING:
    from carpool_worker.claude.client import DirectAnswer

MODELS = "/v1/models"
COUNT_TOKENS = "/v1/messages/count_tokens"
VERSION_HEADER = "anthropic-version"
UPSTREAM_PAGE = 1_000
DEFAULT_LIMIT, MOST_LISTED = 20, 1_000

DATE = re.compile(r"-\d{8}$")
"""At the end of a model's id; without it, the id is the model's alias."""


class NamedModel(msgspec.Struct):
    """A model of the list, as far as the gateway reads it."""

    id: str


class ModelPage(msgspec.Struct):
    """A page of the list; each model's bytes as they came."""

    data: list[msgspec.Raw]
    has_more: bool = False
    last_id: str | None = None


class UpstreamError(msgspec.Struct):
    """What an error of the API says."""

    type: str
    message: str


class UpstreamErrorBody(msgspec.Struct):
    """An error as the API writes it."""

    error: UpstreamError


async def count_tokens(call: Call) -> web.Response:
    """Answer how many input tokens a prompt has, as the API counts them."""
    body = await read_body(call.request)
    model = read_object(body).get("model")
    if not isinstance(model, str):
        raise InvalidRequest("model", "must be text")
    if not call.key.allows_model(model):
        raise GatewayError(403, f"Your API key may not use the model {model}.", should_retry=False)
    return _passed_back(await _ask(call, model, "POST", COUNT_TOKENS, body))


async def list_models(call: Call) -> web.Response:
    """Answer a page of the models that the key may use, newest first."""
    query = call.request.query
    if not call.key.models:
        return _passed_back(await _ask(call, "", "GET", _with_query(MODELS, query)))
    lifecycle = [(name, value) for name, value in query.items() if name.startswith("lifecycle")]
    allowed = [model for model in await _all_models(call, lifecycle) if _may_use(call.key, _id_of(model))]
    return json_answer(to_json(_page(allowed, query)))


async def retrieve_model(call: Call) -> web.Response:
    """Answer one model, by its id or its alias; one that the key may not use is not found."""
    name = call.request.match_info["id"]
    unknown = GatewayError(404, f"model: {name}")
    if call.key.models and not _may_use(call.key, name):
        raise unknown
    answer = await _ask(call, name, "GET", f"{MODELS}/{quote(name, safe='')}")
    return _passed_back(answer)


async def _ask(call: Call, model: str, method: str, path: str, body: bytes | None = None) -> DirectAnswer:
    gateway, headers = call.gateway, call.request.headers
    passed = {name: headers[name] for name in (VERSION_HEADER, BETA_HEADER) if name in headers}
    if workspace := headers.get(WORKSPACE_HEADER):
        if not call.key.workspaces:
            raise GatewayError(403, f"Your API key may not choose a workspace ({WORKSPACE_HEADER}).")
        passed[WORKSPACE_HEADER] = workspace
    if body is not None:
        passed["content-type"] = "application/json"
        path = _with_query(path, call.request.query)
    account = account_of(gateway.settings.accounts, call.key.client, model)
    return await gateway.upstream.ask(account, method, path, passed, body)


def _passed_back(answer: DirectAnswer) -> web.Response:
    """Return the API's answer; raises GatewayError for an error of it."""
    try:
        if answer.status == 200:
            msgspec.json.decode(answer.body, type=dict[str, msgspec.Raw])
            return json_answer(answer.body)
        error = msgspec.json.decode(answer.body, type=UpstreamErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise GatewayError(502, f"The API answered {answer.status}, with what is no answer of it.") from None
    if error.type == UPSTREAM_KEY or error.type not in STATUSES:
        raise GatewayError(502, f"The API refused: {error.type}.")
    raise GatewayError(STATUSES[error.type], error.message, kind=error.type, retry_after=answer.retry_after)


async def _all_models(call: Call, lifecycle: list[tuple[str, str]]) -> list[msgspec.Raw]:
    found: list[msgspec.Raw] = []
    after: str | None = None
    while True:
        cursor = [] if after is None else [("after_id", after)]
        query = [("limit", str(UPSTREAM_PAGE)), *lifecycle, *cursor]
        answer = await _ask(call, "", "GET", f"{MODELS}?{urlencode(query)}")
        _passed_back(answer)
        page = _read_page(answer.body)
        found += page.data
        if not page.has_more or page.last_id in (None, after):
            return found
        after = page.last_id


def _read_page(body: bytes) -> ModelPage:
    try:
        return msgspec.json.decode(body, type=ModelPage)
    except msgspec.DecodeError:
        raise GatewayError(502, "The API answered with something that is no list of models.") from None


def _page(models: list[msgspec.Raw], query: Mapping[str, str]) -> dict[str, object]:
    """Return a page as the API cuts it: what follows the model `after_id`, or precedes `before_id`."""
    limit = _limit(query.get("limit", str(DEFAULT_LIMIT)))
    ids = [_id_of(model) for model in models]
    first = ids.index(_known(ids, query["after_id"])) + 1 if "after_id" in query else 0
    end = ids.index(_known(ids, query["before_id"])) if "before_id" in query else len(ids)
    between = models[first:end]
    is_backward = "before_id" in query
    page = between[-limit:] if is_backward else between[:limit]
    return {
        "data": page,
        "has_more": len(between) > limit,
        "first_id": _id_of(page[0]) if page else None,
        "last_id": _id_of(page[-1]) if page else None,
    }


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_LISTED:
        raise InvalidRequest("limit", f"must be a whole number from 1 to {MOST_LISTED}")
    return int(text)


def _known(ids: list[str], cursor: str) -> str:
    if cursor not in ids:
        raise InvalidRequest("after_id or before_id", "must be the id of a model in the list")
    return cursor


def _may_use(key: GatewayKey, model: str) -> bool:
    return key.allows_model(model) or key.allows_model(DATE.sub("", model))


def _id_of(model: msgspec.Raw) -> str:
    return msgspec.json.decode(model, type=NamedModel).id


def _with_query(path: str, query: Mapping[str, str]) -> str:
    pairs = list(query.items())
    return f"{path}?{urlencode(pairs)}" if pairs else path
