"""What an enqueue refuses, and what the error says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import msgspec
import pytest

from carpool import CarpoolError, InvalidRequest, InvalidSetting, Producer, Request, Task, Webhook, callbacks
from carpool.contract import MAX_PARAMS_BYTES, MAX_WAIT
from carpool.envelopes import check_client, check_options
from carpool.params import check_params


def changed(params: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**params, **changes}


def test_the_json_is_the_params_unchanged(params: dict[str, Any]) -> None:
    params |= {"temperature": 0.5, "top_k": None, "future_key": {"nested": [1, "two", None]}}
    assert msgspec.json.decode(check_params(params)) == params


def nested(levels: int, *leaves: Any) -> list[Any]:
    inner = list(leaves)
    for _ in range(levels - 1):
        inner = [inner]
    return inner


endless: list[Any] = []
endless.append(endless)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"model": "two words"}, "model"),
        ({"model": 4}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"stream": True}, "stream"),
        ({"speed": "fast"}, "speed"),
        ({"store": True}, "store"),
        ({"fallbacks": [{"model": "other"}]}, "fallbacks"),
        ({"temperature": math.nan}, "params.temperature"),
        ({"tools": [{"input_schema": {"maximum": math.inf}}]}, "params.tools[0].input_schema.maximum"),
        ({"system": object()}, "params.system"),
        ({"metadata": {"user_id": "\ud800"}}, "params.metadata.user_id"),
        ({"metadata": {None: [endless]}}, "params.metadata"),
        ({"metadata": nested(201)}, "params"),
        ({"metadata": nested(201, 1.5, math.nan)}, "params"),
        ({"metadata": nested(150, object())}, "params.metadata" + "[0]" * 150),
    ],
)
def test_a_bad_param_is_refused_by_the_name_of_its_field(
    params: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_params(changed(params, **change))
    assert refusal.value.field == field
    assert str(refusal.value) == f"{field}: {refusal.value.rule}"


@pytest.mark.parametrize(
    "change",
    [
        {"stream": False},
        {"speed": "standard"},
        {"store": None},
        {"temperature": 0.0},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
        {"messages": ({"role": "user", "content": "null"},)},
    ],
)
def test_what_the_api_takes_in_a_batch_passes(params: dict[str, Any], change: dict[str, Any]) -> None:
    assert check_params(changed(params, **change))


def test_params_that_are_no_dict_are_refused() -> None:
    for params in (None, [1], "{}", b"{}"):
        with pytest.raises(InvalidRequest, match="params: must be a dict"):
            check_params(params)


def test_params_that_contain_themselves_are_refused(params: dict[str, Any]) -> None:
    params["loop"] = [params]
    with pytest.raises(InvalidRequest, match="contains itself"):
        check_params(params)


def test_params_over_the_limit_of_the_api_are_refused(params: dict[str, Any]) -> None:
    params["messages"][0]["content"] = "x" * MAX_PARAMS_BYTES
    with pytest.raises(InvalidRequest, match="the limit is 32,000,000"):
        check_params(params)


@pytest.mark.parametrize(
    "url",
    [
        "billing.example.com/claude",
        "http://billing.example.com",
        "ftp://billing.example.com",
        "https://",
        "https://user:secret@billing.example.com",
        "https://billing.example.com/a b",
        "https://billing.example.com/\nHost: x",
        "https://billing.example.com:99999",
        "https://[::1",
        "https://billing.example.com/" + "x" * 2048,
    ],
)
def test_a_webhook_that_could_not_be_posted_to_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        callbacks.encode(Webhook(url))
    assert refusal.value.field == "callback.url"


def test_plain_http_needs_to_be_allowed(monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]) -> None:
    hook = Webhook("http://127.0.0.1:8000/claude")
    assert callbacks.encode(hook, allow_http=True)
    with pytest.raises(InvalidRequest, match="must be https"):
        callbacks.encode(hook)
    monkeypatch.setenv("CARPOOL_ALLOW_HTTP", "1")
    assert Producer()._options.allow_http


@pytest.mark.parametrize("task", [Task(""), Task("a b"), Task("x", queue=""), Task("x", queue="q\n")])
def test_a_task_without_a_proper_name_or_queue_is_refused(task: Task) -> None:
    with pytest.raises(InvalidRequest, match=r"callback\.(name|queue): must be a dotted name"):
        callbacks.encode(task)


@pytest.mark.parametrize(
    "task", [Task("carpool.submit"), Task("a", "carpool.deliver"), Task("a", "carpool:waits")]
)
def test_a_callback_to_carpool_itself_is_refused(task: Task) -> None:
    with pytest.raises(InvalidRequest, match=r"callback\.(name|queue): must not be one of Carpool's own"):
        callbacks.encode(task)


def test_a_url_is_limited_in_bytes_as_a_databases_key_is() -> None:
    with pytest.raises(InvalidRequest, match="2,048 bytes"):
        callbacks.encode(Webhook(f"https://a.example/{'字' * 1_000}"))


@pytest.mark.parametrize("callback", [Webhook(["https://a.example"]), Task({}), Task("a", [])])  # type: ignore[arg-type]
def test_a_callback_of_something_else_than_strings_is_refused(callback: Any) -> None:
    with pytest.raises(InvalidRequest, match="callback: must contain strings only"):
        callbacks.encode(callback)


def test_callbacks_go_over_the_wire_as_tagged_json() -> None:
    assert (
        callbacks.encode(Webhook("https://a.example/x")) == b'{"kind":"webhook","url":"https://a.example/x"}'
    )
    body = callbacks.encode({"kind": "task", "name": "billing.on_answer", "queue": "billing"})
    assert body == b'{"kind":"task","name":"billing.on_answer","queue":"billing"}'
    assert callbacks.decode(body) == Task("billing.on_answer", queue="billing")


@pytest.mark.parametrize("callback", [{}, {"kind": "email"}, {"kind": "webhook"}, "https://a.example", 7])
def test_a_callback_of_another_kind_is_refused(callback: Any) -> None:
    with pytest.raises(InvalidRequest, match="callback: must be a Webhook or a Task"):
        callbacks.encode(callback)


@pytest.mark.parametrize(
    ("common", "field"),
    [
        ({"betas": ["a,b"]}, "betas[0]"),
        ({"betas": ["ok", "a\r\nX-Evil: 1"]}, "betas[1]"),
        ({"betas": [""]}, "betas[0]"),
        ({"betas": "output-300k-2026-03-24"}, "betas"),
        ({"betas": [7]}, "betas[0]"),
        ({"user_profile_id": "a b"}, "user_profile_id"),
        ({"workspace_id": 7}, "workspace_id"),
        ({"metadata": {"a": object()}}, "metadata.a"),
        ({"metadata": {"a": math.nan}}, "metadata.a"),
        ({"metadata": "x" * 17_000}, "metadata"),
        ({"priority": 101}, "priority"),
        ({"priority": -101}, "priority"),
        ({"priority": 1.0}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": None}, "priority"),
        ({"max_wait": 0}, "max_wait"),
        ({"max_wait": -1.5}, "max_wait"),
        ({"max_wait": MAX_WAIT + 1}, "max_wait"),
        ({"max_wait": math.nan}, "max_wait"),
        ({"max_wait": True}, "max_wait"),
        ({"max_wait": "60"}, "max_wait"),
        ({"tags": "invoice"}, "tags"),
        ({"tags": {"invoice"}}, "tags"),
        ({"tags": [str(number) for number in range(11)]}, "tags"),
        ({"tags": ["ok", "two words"]}, "tags[1]"),
        ({"tags": [""]}, "tags[0]"),
        ({"tags": ["x" * 65]}, "tags[0]"),
        ({"tags": ["a\0b"]}, "tags[0]"),
        ({"tags": ["\ud800"]}, "tags[0]"),
        ({"tags": [7]}, "tags[0]"),
    ],
)
def test_a_bad_keyword_is_refused_by_its_name(common: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_options("tests", common)
    assert refusal.value.field == field


class Kind(StrEnum):
    PAID = "paid"


class Code(IntEnum):
    FINAL = 1


@dataclass
class Order:
    """What a service may keep in its metadata: JSON has a form for it, if it has one for its fields."""

    number: int
    paid_at: object = None


@pytest.mark.parametrize(
    "value",
    [
        b"x",
        bytearray(b"x"),
        memoryview(b"x"),
        {1},
        frozenset(),
        Decimal("0.1"),
        UUID(int=7),
        datetime(2026, 11, 1, tzinfo=UTC),
        date(2026, 11, 1),
        time(12),
        timedelta(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_has_no_form_for_is_refused_by_its_place_and_type(
    params: dict[str, Any], value: object
) -> None:
    for container in (value, [value], (value,), {"at": value}, [{"deep": (value,)}], Order(1, value)):
        with pytest.raises(
            InvalidRequest, match=f"^metadata.*can't be JSON: it is a {type(value).__name__},"
        ):
            check_options("tests", {"metadata": container})
    params["messages"][0]["content"] = [{"type": "text", "text": value}]
    with pytest.raises(InvalidRequest, match=r"^params.messages\[0\].content\[0\].text: can't be JSON"):
        check_params(params)


def test_tuples_enums_and_dataclasses_have_a_form(params: dict[str, Any]) -> None:
    metadata = {"order": Order(7), "kinds": (Kind.PAID, Code.FINAL)}
    assert check_options("tests", {"metadata": metadata}).metadata == (
        b'{"order":{"number":7,"paid_at":null},"kinds":["paid",1]}'
    )


@pytest.mark.parametrize(("own", "field"), [({"priority": 101}, "priority"), ({"max_wait": 0}, "max_wait")])
def test_a_bad_option_of_one_request_is_refused_by_its_name(
    params: dict[str, Any], own: Any, field: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"{field}: must be"):
        check_options("tests", {}).overridden(Request(params, **own))


@pytest.mark.parametrize("key", ["", "x" * 257, 7, "a\0b", "\ud800"])
def test_a_bad_idempotency_key_is_refused(params: dict[str, Any], key: Any) -> None:
    with pytest.raises(InvalidRequest, match="idempotency_key: must be"):
        check_options("tests", {}).overridden(Request(params, idempotency_key=key))


def test_a_request_overrides_the_options_of_its_call(params: dict[str, Any]) -> None:
    # Given
    common = check_options(
        "tests",
        {
            "callback": Task("a"),
            "metadata": 1,
            "betas": ["b"],
            "workspace_id": "w",
            "priority": 5,
            "max_wait": 60,
            "tags": ["invoice-7", "é"],
        },
    )
    # When
    plain = common.request(params)
    own = common.overridden(
        Request(
            params, callback=Task("c"), metadata=2, betas=["d", "a"], priority=0, max_wait=0.5, tags=["eu"]
        )
    )
    # Then
    assert (plain.terms.callback, plain.metadata) == (callbacks.encode(Task("a")), b"1")
    assert (own.terms.callback, own.metadata) == (callbacks.encode(Task("c")), b"2")
    assert plain.terms.headers == {"anthropic-beta": "b", "anthropic-workspace-id": "w"}
    assert own.terms.headers == {"anthropic-beta": "a,d", "anthropic-workspace-id": "w"}
    assert (plain.terms.priority, plain.submit_by) == (5, plain.enqueued_at + 60_000)
    assert (own.terms.priority, own.submit_by) == (0, own.enqueued_at + 500)
    assert (plain.tags, own.tags) == (("invoice-7", "é"), ("eu",))


def test_by_default_the_priority_is_0_and_submit_windows_are_waited_for(params: dict[str, Any]) -> None:
    request = check_options("tests", {}).request(params)
    assert (request.terms.priority, request.submit_by) == (0, None)


def test_an_unknown_option_is_a_type_error(params: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="'calback'"):
        check_options("tests", {"calback": None})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "é", 7])
def test_a_bad_client_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidSetting, match="client: must be"):
        check_client(name)


def test_a_url_that_is_not_of_redis_is_refused_as_a_setting() -> None:
    with pytest.raises(InvalidSetting, match="url: must begin with"):
        Producer("http://127.0.0.1")


def test_every_error_says_something_by_default() -> None:
    assert str(CarpoolError()) == "Something went wrong in Carpool."
