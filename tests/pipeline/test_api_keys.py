"""Several API keys, in one workspace and in several: nothing is run twice, and no answer is thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest
from tests.fixtures.agents import GIVE_UP_AT_ONCE, MODEL, Carpool, request
from tests.fixtures.doubts import (
    LOST,
    NOT_MADE,
    assert_each_ran_once,
    claude_ids,
    given_doubts,
    post_as_a_stranger,
)
from tests.fixtures.queries import batch_states, request_states
from tests.fixtures.waiting import until

from carpool import Producer
from carpool_worker.claude.batch import RemoteBatch
from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import Credentials
from carpool_worker.database import now, read
from carpool_worker.pipeline.collection import collector, poller, recognition
from carpool_worker.pipeline.submission import rescuer, submitter
from carpool_worker.policies.retries import CollectPolicy
from carpool_worker.settings import read_settings
from carpool_worker.simulator import Fault, RemoteSimulator
from carpool_worker.units import DAY
from carpool_worker.views.batches import BatchFilter, page

OLD, ROLLED, ELSEWHERE = "sk-old", "sk-rolled", "sk-elsewhere"
"""Two keys of one workspace, and one of another."""

Connect = Callable[[str], Claude]


@pytest.fixture
def key(carpool: Carpool, simulator: RemoteSimulator) -> Connect:
    """Connect with a key; the agents use the old one at first."""
    simulator.assign({OLD: "wrkspc_a", ROLLED: "wrkspc_a", ELSEWHERE: "wrkspc_b"})

    def connect(name: str) -> Claude:
        return Claude(credentials=Credentials(api_key=name))

    carpool.claude = connect(OLD)
    return connect


def given_batches_out(carpool: Carpool, producer: Producer, count: int = 1) -> None:
    producer.enqueue_many([request(model=f"{MODEL}-{n}") for n in range(count)])
    carpool.aggregate()
    carpool.submit()


def rescued(carpool: Carpool, *claudes: Claude) -> list[str]:
    return rescuer.rescue(carpool.engine, claudes, GIVE_UP_AT_ONCE)


def polled(carpool: Carpool, *claudes: Claude) -> list[str]:
    return poller.poll(carpool.engine, claudes)


def collected(carpool: Carpool, claude: Claude) -> bool:
    """Collect the only batch that has ended; `claude` is the client of this worker."""
    carpool.change("UPDATE batches SET due_at = 0")
    [(batch_id,)] = carpool.rows("SELECT id FROM batches WHERE state = 'ended'")
    seer = recognition.reader_of(carpool.engine, [claude], batch_id)
    assert seer is claude
    return collector.collect(carpool.engine, seer, batch_id, CollectPolicy(3, 60), lambda *_: None)


def unseen(carpool: Carpool) -> int:
    return len(carpool.rows("SELECT id FROM batches WHERE unseen_since IS NOT NULL"))


def waits(carpool: Carpool) -> str:
    with read(carpool.engine) as connection:
        [batch] = page(connection, read_settings(), BatchFilter(), 10)
    return batch.waiting_for


@pytest.mark.parametrize("fault", [LOST, NOT_MADE])
def test_a_key_of_another_workspace_settles_no_doubt(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect, fault: Fault
) -> None:
    # Given a create in doubt, and a key of another workspace, which has batches of its own there
    simulator.arm(fault)
    [batch_id] = given_doubts(carpool, producer, MODEL)
    old, carpool.claude = carpool.claude, key(ELSEWHERE)

    # When the other key is used, however long, Then the batch waits, and says for what
    for _ in range(3):
        assert rescued(carpool, carpool.claude) == []
        carpool.go_round()
    assert batch_states(carpool.engine) == ["submitting"]
    assert waits(carpool).startswith("an API key that may see it")

    # When the key that posted it is back beside it, Then that one settles it
    until(lambda: rescued(carpool, carpool.claude, old) == [batch_id])
    assert unseen(carpool) == 0
    carpool.claude = old
    carpool.until(lambda: bool(rescued(carpool, old)) or carpool.ended(2))
    assert_each_ran_once(simulator, 2)


@pytest.mark.parametrize("fault", [LOST, NOT_MADE])
@pytest.mark.parametrize("revoked", [False, True])
def test_a_key_that_was_rolled_settles_doubts_once_it_has_seen_a_batch_of_ours(
    carpool: Carpool,
    producer: Producer,
    simulator: RemoteSimulator,
    key: Connect,
    fault: Fault,
    revoked: bool,
) -> None:
    # Given a batch at Anthropic and one in doubt, and a key that was rolled since
    given_batches_out(carpool, producer)
    simulator.arm(fault)
    given_doubts(carpool, producer, MODEL)
    old, carpool.claude = carpool.claude, key(ROLLED)
    keys = [carpool.claude]
    if revoked:
        simulator.assign({OLD: None})
        keys.append(old)

    # When / Then
    carpool.until(lambda: bool(rescued(carpool, *keys)))
    assert unseen(carpool) == 0
    carpool.until(lambda: carpool.ended(3))
    assert set(request_states(carpool.engine)) == {"completed"}
    assert_each_ran_once(simulator, 3)


def test_a_rolled_key_that_can_have_seen_nothing_yet_waits_for_the_old_one(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect
) -> None:
    simulator.arm(NOT_MADE)
    [batch_id] = given_doubts(carpool, producer, MODEL)

    assert rescued(carpool, key(ROLLED)) == []
    assert unseen(carpool) == 1

    until(lambda: rescued(carpool, key(ROLLED), carpool.claude) == [batch_id])


@pytest.mark.parametrize("count", [1, 5])
def test_a_key_of_another_workspace_ends_no_batch_however_long_it_asks(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect, count: int
) -> None:
    # Given batches that are long past their expiry, but whose results can still be read
    given_batches_out(carpool, producer, count)
    other = key(ELSEWHERE)
    carpool.change(f"UPDATE batches SET expires_at = {now() - 27 * DAY}")

    # When a key of another workspace polls them, Then they wait for one that may see them
    for _ in range(3):
        assert polled(carpool, other) == []
    assert set(batch_states(carpool.engine)) == {"in_progress"}
    assert unseen(carpool) == count

    # When one that may see them is there too, Then they end, and nothing is lost
    carpool.until(lambda: bool(polled(carpool, other, carpool.claude)) or carpool.ended(count))
    assert unseen(carpool) == 0
    carpool.until(lambda: carpool.ended(count))
    assert set(request_states(carpool.engine)) == {"completed"}
    assert_each_ran_once(simulator, count)


def test_results_that_another_key_may_not_see_are_not_gone(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect
) -> None:
    # Given a batch that ended long ago
    given_batches_out(carpool, producer)
    carpool.until_polled("ended")
    carpool.change(f"UPDATE batches SET ended_at = {now() - 27 * DAY}")

    # When a key of another workspace asks for its results, Then they are not there yet
    for _ in range(3):
        assert not collected(carpool, key(ELSEWHERE))
    assert request_states(carpool.engine) == ["batched"]

    # When one of its workspace does, Then they are read
    assert collected(carpool, key(ROLLED))
    assert request_states(carpool.engine) == ["completed"]


def test_a_doubt_adopts_nothing_of_another_workspace(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect
) -> None:
    # Given two creates in doubt, one in each workspace, and a stranger of their size in the first
    simulator.arm(LOST, NOT_MADE)
    given_doubts(carpool, producer, MODEL)
    old, carpool.claude = carpool.claude, key(ELSEWHERE)
    first, second = given_doubts(carpool, producer, f"{MODEL}-2")
    [made] = old.list_newest({})
    post_as_a_stranger(old)

    class Late(Claude):
        """While it lists, the first one's answer comes after all."""

        def list_newest(self, headers: Mapping[str, str]) -> Iterator[RemoteBatch]:
            yield from list(super().list_newest(headers))
            submitter.accept(carpool.engine, first, made)

    # When the first is searched for, Then the second takes nothing that is there
    assert rescued(carpool, Late(credentials=Credentials(api_key=OLD))) == []
    assert claude_ids(carpool) == {first: made.id, second: None}


@pytest.mark.parametrize(("other", "workspaces"), [(ROLLED, 1), (ELSEWHERE, 2)])
def test_workers_with_different_keys_need_no_help_and_do_no_harm(
    carpool: Carpool,
    producer: Producer,
    simulator: RemoteSimulator,
    key: Connect,
    other: str,
    workspaces: int,
) -> None:
    # Given a deployment under way: each step is made by a worker with the one key, or the other
    workers = [carpool.claude, key(other)]
    simulator.arm(Fault(operation="create", kind="lost", skip=1), Fault(operation="create", kind="dropped"))
    given_batches_out(carpool, producer, 4)

    def step() -> bool:
        workers.reverse()
        carpool.claude = workers[0]
        rescued(carpool, workers[0])
        return carpool.ended(4)

    # When / Then
    carpool.until(step)
    assert set(request_states(carpool.engine)) == {"completed"}
    assert_each_ran_once(simulator, 4)
    assert len(carpool.rows("SELECT DISTINCT same_as FROM claude_keys")) == workspaces


def test_a_moved_account_posts_to_the_new_workspace_and_collects_from_the_old_one(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect
) -> None:
    # Given a batch in the old workspace, then one in the new
    given_batches_out(carpool, producer)
    retired, current = carpool.claude, key(ELSEWHERE)
    carpool.claude = current
    given_batches_out(carpool, producer)

    # When both keys are at hand, Then each batch ends
    carpool.until(lambda: bool(polled(carpool, current, retired)) and unseen(carpool) == 0)
    carpool.until(
        lambda: (
            not carpool.rows("SELECT 1 FROM batches WHERE state = 'in_progress'")
            or not polled(carpool, current, retired)
        )
    )
    while carpool.rows("SELECT 1 FROM batches WHERE state = 'ended'"):
        for (batch_id,) in carpool.rows("SELECT id FROM batches WHERE state = 'ended'"):
            seer = recognition.reader_of(carpool.engine, [current, retired], batch_id)
            assert seer is not None
            collector.collect(carpool.engine, seer, batch_id, CollectPolicy(3, 60), lambda *_: None)
    assert set(request_states(carpool.engine)) == {"completed"}
    assert_each_ran_once(simulator, 2)


def test_an_api_that_is_away_says_nothing_about_who_may_see_what(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect
) -> None:
    given_batches_out(carpool, producer, 4)
    simulator.arm(*(Fault(operation="list", kind=kind) for kind in ("dropped", "error")))

    for _ in range(2):
        polled(carpool, key(ROLLED))

    assert unseen(carpool) == 0


def test_batches_that_an_earlier_version_posted_are_settled_by_a_key_that_has_seen_ours(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect
) -> None:
    # Given a batch out and one in doubt, both of a version that kept no keys
    given_batches_out(carpool, producer)
    simulator.arm(NOT_MADE)
    given_doubts(carpool, producer, MODEL)
    carpool.change("UPDATE batches SET poster = NULL")
    carpool.change("DELETE FROM claude_keys")

    # When a key of another workspace is used, Then nothing is posted again
    assert rescued(carpool, key(ELSEWHERE)) == []

    # When one of their workspace is, Then all goes on
    carpool.until(lambda: bool(rescued(carpool, key(ELSEWHERE), carpool.claude)))
    carpool.until(lambda: carpool.ended(3))
    assert_each_ran_once(simulator, 3)


def test_neither_a_key_nor_what_two_databases_share_is_stored(
    carpool: Carpool, producer: Producer, simulator: RemoteSimulator, key: Connect
) -> None:
    given_batches_out(carpool, producer)

    [row] = carpool.rows("SELECT * FROM claude_keys")
    assert OLD not in str(row)
    assert row.organization == "org_simulated"
    assert carpool.rows("SELECT poster FROM batches") == [(row.fingerprint,)]

    carpool.change("DELETE FROM claude_keys")
    polled(carpool, key(OLD))
    assert carpool.rows("SELECT fingerprint FROM claude_keys") != [(row.fingerprint,)]
