"""What a service has at hand goes into the params: mappings, the SDK's models, earlier answers; what it gets wrong."""

from __future__ import annotations

import warnings
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from anthropic.types import Message

from carpool import InvalidRequest, Result, SourceFailed, UnknownParam
from carpool.params import check_params
from carpool.testing import InMemoryProducer

QUESTION = {"role": "user", "content": "And now?"}


def sent(params: Any) -> Any:
    """Return the params as Anthropic gets them."""
    return msgspec.json.decode(check_params(params))


def answer(text: str = "positive") -> Result:
    producer = InMemoryProducer(reply=lambda _: text)
    return producer.wait(
        producer.enqueue({"model": "claude-haiku-4-5", "max_tokens": 8, "messages": [QUESTION]})
    )


def test_any_mapping_will_do_at_every_level(params: dict[str, Any]) -> None:
    message = MappingProxyType(
        {"role": "user", "content": (MappingProxyType({"type": "text", "text": "Hi"}),)}
    )
    assert sent(MappingProxyType(params | {"messages": [message]})) == params | {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    }


def test_an_earlier_answer_goes_straight_into_the_next_request(params: dict[str, Any]) -> None:
    result = answer()
    block = {"type": "text", "text": "positive"}
    said = {"role": "assistant", "content": [block]}
    model = result.sdk_message
    assert isinstance(model, Message)

    for earlier in (
        result,
        model,
        result.message,
        {"role": "assistant", "content": result},
        {"role": "assistant", "content": model.content},
        {"role": "assistant", "content": [model.content[0]]},
    ):
        assert sent(params | {"messages": [QUESTION, earlier, QUESTION]})["messages"] == [
            QUESTION,
            said,
            QUESTION,
        ]


def test_a_failed_answer_is_no_message(params: dict[str, Any]) -> None:
    producer = InMemoryProducer()
    failed = producer.fail(producer.enqueue(params), "api_error")
    with pytest.raises(
        InvalidRequest, match=r"messages\[0\]: is the Result of a request that has no message"
    ):
        check_params(params | {"messages": [failed]})


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("betas", ["a"], r"enqueue\(params, betas=\[…\]\)"),
        ("extra_headers", {}, "betas, user_profile_id and workspace_id"),
        ("extra_query", {}, "only a whole batch has a URL"),
        ("extra_body", {"top_k": 1}, "put its keys into the params themselves"),
        ("timeout", 5, "enqueue has max_wait"),
    ],
)
def test_what_belongs_elsewhere_is_told_where(
    params: dict[str, Any], name: str, value: Any, instead: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"^{name}: .*{instead}"):
        check_params(params | {name: value})


def test_a_near_miss_is_a_warning_at_the_callers_line_and_is_sent(params: dict[str, Any]) -> None:
    with pytest.warns(UnknownParam, match="'temprature'.* did you mean 'temperature'") as warned:
        assert sent(params | {"temprature": 0.5})["temprature"] == 0.5
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_params(params | {"something_new": 1, "top_p": 0.5, "tools": []})


def test_a_typo_in_a_keyword_names_the_right_one(params: dict[str, Any]) -> None:
    producer = InMemoryProducer()
    with pytest.raises(TypeError, match="unexpected keyword argument 'calback': did you mean 'callback'"):
        producer.enqueue(params, calback=None)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'colour': there are idempotency_key, betas, callback"):
        producer.enqueue(params, colour=None)  # type: ignore[call-arg]


def test_an_iterable_that_fails_says_what_it_raised(params: dict[str, Any]) -> None:
    def source() -> Any:
        yield params
        raise LookupError("no row 7")

    with pytest.raises(
        SourceFailed, match="the iterable of requests raised LookupError: no row 7"
    ) as failure:
        InMemoryProducer().enqueue_many(source())
    assert len(failure.value.accepted) == 1
