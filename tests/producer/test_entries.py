"""Which requests share an entry: those of one lane with the same terms, whatever comes between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from carpool import InvalidRequest, Producer, QueueFull, Request, Task, packer
from carpool.contract import Entry, decode_entry, encode_entry
from carpool.entries import envelopes

if TYPE_CHECKING:
    from tests.producer.conftest import HandWorker


def top_k(params: bytes) -> int:
    number: int = msgspec.json.decode(params)["top_k"]
    return number


def test_requests_that_alternate_between_lanes_fill_an_entry_of_each(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # When
    models = [f"claude-{n}" for n in range(3)]
    ids = producer.enqueue_many({**params, "model": models[n % 3], "top_k": n} for n in range(600))
    # Then each entry has one model and keeps the order, and the ids are in the order of all
    entries = worker.entries()
    assert [{one.model for one in entry} for entry in entries] == [{model} for model in models]
    assert [[top_k(one.params) for one in entry] for entry in entries] == [
        list(range(n, 600, 3)) for n in range(3)
    ]
    number = {one.id: top_k(one.params) for one in worker.envelopes()}
    assert [number[id_] for id_ in ids] == list(range(600))


@pytest.mark.parametrize(
    "own", [{"callback": Task("a.b")}, {"betas": ["b"]}, {"priority": 7}], ids=lambda own: next(iter(own))
)
def test_what_an_entry_has_once_separates_requests(
    producer: Producer, worker: HandWorker, params: dict[str, Any], own: dict[str, Any]
) -> None:
    producer.enqueue_many([params, Request(params, **own), params, Request(params, **own)])
    plain, other = worker.entries()
    assert (len(plain), len(other)) == (2, 2)
    assert [(one.callback, one.headers, one.priority) for one in plain] == [(None, {}, 0)] * 2
    assert all((one.callback, one.headers, one.priority) != (None, {}, 0) for one in other)


def test_what_each_request_may_have_for_itself_does_not_separate_them(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # When
    keyed = Request(params, idempotency_key="k", max_wait=60)
    producer.enqueue_many([Request(params, metadata=1), params, keyed], tags=["eu", "eu"])
    # Then
    [entry] = worker.entries()
    assert [one.tags for one in entry] == [("eu",)] * 3
    assert [one.metadata for one in entry] == [b"1", None, None]
    assert [one.idempotency_key for one in entry] == [None, None, "k"]
    assert [one.submit_by and one.submit_by - one.enqueued_at for one in entry] == [None, None, 60_000]


def test_no_more_than_a_few_entries_are_open_and_the_oldest_is_closed_first(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    # Given two rounds over more models than entries may be open
    models = [f"claude-{n}" for n in range(packer.OPEN_ENTRIES + 1)]
    # When
    producer.enqueue_many({**params, "model": model} for model in [*models, *models[1:]])
    # Then the first was closed for the last, and each of the others waited for its second request
    sizes = {entry[0].model: len(entry) for entry in worker.entries()}
    assert sizes == {models[0]: 1, **dict.fromkeys(models[1:], 2)}


def test_a_rare_request_does_not_wait_for_the_end_of_a_long_call(
    producer: Producer, worker: HandWorker, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packer, "OPEN_REQUESTS", 1_000)
    rare = {**params, "model": "rare"}
    producer.enqueue_many([rare, *[params] * 4_000])
    models = [entry[0].model for entry in worker.entries()]
    assert models.index("rare") < len(models) - 5


def test_the_error_of_a_full_inbox_lists_what_it_accepted_of_several_lanes(
    redis_url: str, worker: HandWorker, params: dict[str, Any]
) -> None:
    other = {**params, "model": "other"}
    with Producer(redis_url, max_queued=450) as producer, pytest.raises(QueueFull) as refusal:
        producer.enqueue_many([params, other] * 300)
    accepted = list(refusal.value.accepted)
    assert len(accepted) == len(set(accepted)) == 400
    assert {envelope.id for envelope in worker.envelopes()} == set(accepted)
    assert accepted == sorted(accepted)  # in the order of the call: these ids sort by time


def test_all_before_an_invalid_request_is_enqueued_in_whichever_lane(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest, match="request 4: messages: must be") as refusal:
        producer.enqueue_many(
            [params, {**params, "model": "other"}] * 2 + [{**params, "messages": 7}, params]
        )
    assert {envelope.id for envelope in worker.envelopes()} == set(refusal.value.accepted)
    assert len(refusal.value.accepted) == 4


def test_an_entry_whose_parts_do_not_belong_together_is_refused(
    producer: Producer, worker: HandWorker, params: dict[str, Any]
) -> None:
    producer.enqueue_many([params] * 3)
    [entry] = worker.packed_entries()
    for change in ({"ids": b"x" * 16}, {"enqueued_at": [1]}, {"metadata": [b"1"]}, {"ids": b"x" * 47}):
        damaged: Entry = msgspec.structs.replace(entry, **change)
        with pytest.raises(ValueError, match="for each of the"):
            list(envelopes(decode_entry(encode_entry(damaged))))
