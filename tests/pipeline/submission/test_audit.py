"""The audit: whatever ran twice at Anthropic is named and counted, and what can't be known is said to be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import uuid_utils
from tests.fixtures.agents import Carpool, request
from tests.fixtures.doubts import claude_ids, post, post_as_a_stranger, request_ids
from tests.fixtures.queries import batch_ids
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import Credentials
from carpool_worker.database import now, read
from carpool_worker.pipeline.submission import audit, orphans
from carpool_worker.pipeline.submission.audit import Audit, ForeignBatch, Whose
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.store.batches import rows as batches
from carpool_worker.store.batches import unowned
from carpool_worker.units import HOUR, Milliseconds

REPEATED = Fault(operation="create", kind="repeated")


def audited(carpool: Carpool, *claudes: Claude, since: int = HOUR) -> Audit:
    return audit.audit(carpool.engine, claudes or [carpool.claude], Milliseconds(now() - since))


def counted(found: Audit) -> dict[str, int]:
    return {verdict.value: count for verdict, count in found.counts.items() if count}


def twice(carpool: Carpool) -> int:
    with read(carpool.engine) as connection:
        return unowned.sum_twice(connection)


@pytest.fixture
def batch_id(carpool: Carpool, producer: Producer) -> str:
    """A sealed batch of two requests."""
    producer.enqueue_many([request("a"), request("b")])
    carpool.aggregate()
    return batch_ids(carpool.engine)[0]


def test_what_a_relay_ran_twice_is_named_and_counted_once(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a relay that posted a batch twice, and answered once
    simulator.arm(REPEATED)
    carpool.submit_batch(batch_id)
    carpool.until(lambda: carpool.ended(2))
    ours = set(claude_ids(carpool).values())
    [twin] = [one for one in carpool.claude.newest({}, 9) if one.id not in ours]
    until(lambda: carpool.claude.retrieve(twin.id, {}).processing_status == "ended")

    # When
    first, second = audited(carpool), audited(carpool)

    # Then
    assert first.findings == second.findings == [ForeignBatch(Whose.TWICE, twin.id, batch_id, 2)]
    assert not first.is_clean
    assert [(one.listed, one.known) for one in (*first.places, *second.places)] == [(2, 1), (2, 2)]
    assert twice(carpool) == 2
    assert "requests ran twice" in caplog.text
    with read(carpool.engine) as connection:
        [orphan] = unowned.orphans_of(connection, batch_id)
    assert (orphan.claude_id, orphan.is_lost, orphan.run_twice) == (twin.id, True, 2)


def test_whose_a_batch_is_that_has_not_ended_is_not_guessed(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two batches that run, one of which no table knows
    simulator.arm(REPEATED)
    carpool.submit_batch(batch_id)
    listed = [replace(one, processing_status="in_progress") for one in carpool.claude.newest({}, 9)]
    monkeypatch.setattr(Claude, "list_newest", lambda *_: iter(listed))

    # When
    found = audited(carpool)

    # Then
    [finding] = found.findings
    assert (finding.verdict, finding.batch_id) == (Whose.UNREAD, None)
    assert "in_progress" in str(finding.why)
    assert found.is_clean
    assert twice(carpool) == 0


def test_a_strangers_batch_is_read_once_and_is_not_ours(
    carpool: Carpool, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given another program in the workspace, which names its requests by random UUIDs
    carpool.submit_batch(batch_id)
    carpool.until(lambda: carpool.ended(2))
    post(carpool, [uuid.uuid4().hex for _ in range(2)])
    stranger = post_as_a_stranger(carpool.claude)
    until(lambda: carpool.claude.retrieve(stranger.id, {}).processing_status == "ended")
    read_of = []
    results = Claude.results

    def count(self: Claude, claude_id: str, headers: Mapping[str, str]) -> Iterator[bytes]:
        read_of.append(claude_id)
        return results(self, claude_id, headers)

    monkeypatch.setattr(Claude, "results", count)

    # When
    found = [audited(carpool) for _ in range(3)]

    # Then
    assert [counted(one) for one in found] == [{"strange": 2}] * 3
    assert all(one.is_clean and not one.findings for one in found)
    assert len(read_of) == 2


def test_a_batch_of_which_a_restored_backup_knows_some_requests_is_found(
    carpool: Carpool, batch_id: str
) -> None:
    # Given that the tables know a request of a batch, whose other requests came after the backup
    carpool.submit_batch(batch_id)
    carpool.until(lambda: carpool.ended(2))
    after = [uuid_utils.uuid7().hex for _ in range(3)]
    lost = post(carpool, [*after, request_ids(carpool)[0]])

    # When, Then
    assert audited(carpool).findings == [ForeignBatch(Whose.TWICE, lost.id, batch_id, 1)]


def test_names_like_ours_that_no_table_knows_are_said_to_be(carpool: Carpool, batch_id: str) -> None:
    lost = post(carpool, [uuid_utils.uuid7().hex])

    found = [audited(carpool), audited(carpool)]

    assert [one.findings for one in found] == [[ForeignBatch(Whose.NAMELESS, lost.id)]] * 2
    assert twice(carpool) == 0


def test_a_batch_that_is_in_doubt_is_left_to_the_rescuer(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str
) -> None:
    simulator.arm(Fault(operation="create", kind="lost"))
    carpool.submit_batch(batch_id)
    until(lambda: carpool.claude.newest({}, 1)[0].processing_status == "ended")

    [finding] = audited(carpool).findings

    assert (finding.verdict, finding.batch_id, finding.why) == (
        Whose.UNREAD,
        batch_id,
        f"it has requests of batch {batch_id}, which is being posted, in doubt or not collected",
    )
    assert carpool.rows("SELECT 1 FROM unowned_batches") == []


def test_what_an_orphan_ran_before_it_was_canceled_is_counted(carpool: Carpool, batch_id: str) -> None:
    # Given an orphan that had run before it could be canceled
    carpool.submit_batch(batch_id)
    carpool.until(lambda: carpool.ended(2))
    late = post(carpool, request_ids(carpool))
    with read(carpool.engine) as connection:
        batch = batches.get(connection, batch_id)
    assert batch
    orphans.withdraw(carpool.engine, carpool.claude, batch, late)

    # When, Then
    assert audited(carpool).findings == [ForeignBatch(Whose.TWICE, late.id, batch_id, 2)]
    assert twice(carpool) == 2


def test_a_list_without_our_batches_or_none_at_all_proves_nothing(
    carpool: Carpool, simulator: RemoteSimulator, batch_id: str
) -> None:
    # Given a batch of ours, a key of another workspace, and one that is refused
    carpool.submit_batch(batch_id)
    simulator.assign({"sk-ant-of-another-workspace": "wrkspc_other"})
    other = Claude(credentials=Credentials(api_key="sk-ant-of-another-workspace"))

    # When
    found = audited(carpool, other)
    simulator.arm(Fault(operation="list", kind="error", status=500))
    refused = audited(carpool)

    # Then
    assert [place.is_blind for place in found.places] == [True]
    assert "500" in str(refused.places[0].error)
    assert not found.is_clean
    assert not refused.is_clean


def test_several_keys_of_a_workspace_list_it_once_and_pages_are_compared_one_by_one(
    carpool: Carpool, batch_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given
    monkeypatch.setattr(audit, "PAGE", 2)
    carpool.submit_batch(batch_id)
    strangers = [post_as_a_stranger(carpool.claude, count=1) for _ in range(4)]
    until(lambda: all(carpool.claude.retrieve(one.id, {}).processing_status == "ended" for one in strangers))
    compared: list[int] = []

    # When
    found = audit.audit(
        carpool.engine, [carpool.claude, Claude()], Milliseconds(now() - HOUR), compared.append
    )

    # Then
    assert compared == [2, 2, 1]
    assert [(place.listed, place.known) for place in found.places] == [(5, 1)]
    assert counted(found) == {"strange": 4}
    assert audited(carpool, since=-HOUR).places[0].listed == 0
