"""Whatever a client asks for: it is refused by the name of a field, or it goes into a batch that Anthropic takes."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import celery
import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.fixtures.agents import MODEL, Carpool, request
from tests.pipeline.fuzzing import fuzzed, json_values
from tests.tasks.test_enqueue import app, send

from carpool import InvalidRequest, InvalidSetting, Producer, Task, Webhook
from carpool.envelopes import check_client
from carpool_worker.coordination.keys import QUARANTINE
from carpool_worker.tasks.enqueue import MESSAGE_FIELD

__all__ = ["app"]

cyclic: list[Any] = []
cyclic.append(cyclic)


def nested(levels: int, leaf: Any) -> Any:
    for level in range(levels):
        leaf = [leaf] if level % 2 else {"in": leaf}
    return leaf


texts = st.text() | st.text(st.characters(categories=["Cs", "Cc", "L"]), max_size=5)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.binary(),
    st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    st.sampled_from(
        [Decimal("NaN"), Decimal(1), uuid.UUID(int=1), object(), ..., cyclic, range(3), Exception]
    ),
)
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(texts | st.integers() | st.none() | st.floats() | st.binary(), inner, max_size=3),
        st.frozensets(st.integers(), max_size=2),
        st.builds(nested, st.integers(150, 1_200), inner),
    ),
    max_leaves=5,
)
fields = st.sampled_from(
    [
        "model",
        "max_tokens",
        "messages",
        "system",
        "tools",
        "stream",
        "temperature",
        "metadata",
        "",
        "\0",
        "new",
    ]
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"]) | anything, "content": anything}
    ),
    max_size=2,
)
changes = st.dictionaries(fields | texts, anything, max_size=3) | st.builds(
    lambda some: {"messages": some}, messages
)
callbacks = st.one_of(
    st.none(),
    st.builds(Webhook, texts | anything),
    st.builds(Task, texts | anything, texts | anything),
    st.dictionaries(st.sampled_from(["kind", "url", "name"]), anything),
)
particulars = st.fixed_dictionaries(
    {},
    optional={
        "callback": callbacks,
        "metadata": anything,
        "idempotency_key": texts | anything,
        "betas": st.lists(texts) | st.just(["b" * 200] * 20) | anything,
        "workspace_id": texts | anything,
    },
)


def test_what_a_producer_accepts_runs_and_what_it_refuses_it_names(
    carpool: Carpool, producer: Producer
) -> None:
    taken: set[str] = set()
    named: set[str] = set()

    @fuzzed(100)
    @given(changes, particulars)
    def attack(changes: dict[Any, Any], particulars: dict[str, Any]) -> None:
        try:
            taken.add(producer.enqueue(request() | changes, **particulars))
        except InvalidRequest as refused:
            named.add(refused.field)

    attack()
    assert all(named)
    assert_all_run(carpool, taken)


json_changes = st.dictionaries(fields | st.text(), json_values, max_size=2)
messages_of_celery = st.fixed_dictionaries(
    {"params": st.builds(lambda some: request() | some, json_changes) | json_values},
    optional={
        "callback": json_values | st.builds(lambda url: {"kind": "webhook", "url": url}, json_values),
        "metadata": json_values,
        "idempotency_key": json_values,
        "client": json_values,
    },
)


def test_what_the_enqueue_task_accepts_runs_and_what_it_refuses_it_names(
    app: celery.Celery, carpool: Carpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carpool_worker.tasks.enqueue.engine", lambda: carpool.engine)

    @fuzzed(60)
    @given(messages_of_celery, st.text(max_size=5))
    def attack(message: dict[str, Any], task_id: str) -> None:
        with suppress(InvalidRequest, InvalidSetting):
            send(task_id, **message)

    attack()

    # Then quarantined is only what is no client's, and so can be no request
    kept: Any = carpool.server.xrange(QUARANTINE)
    for _, fields in kept:
        with pytest.raises(InvalidSetting):
            check_client(json.loads(fields[MESSAGE_FIELD])["client"])
    carpool.server.delete(QUARANTINE)
    assert_all_run(carpool, set())


def assert_all_run(carpool: Carpool, ids: set[str]) -> None:
    carpool.aggregate()
    held = {row[0] for row in carpool.rows("SELECT id FROM requests")}
    assert ids <= held
    carpool.until(lambda: carpool.ended(len(held)))
    assert carpool.rows("SELECT last_error FROM batches WHERE state <> 'completed'") == []
    assert carpool.server.xlen(QUARANTINE) == 0
    assert MODEL in {row[0] for row in carpool.rows("SELECT model FROM segments")}
