"""In the model, what does not show proves nothing by itself; were it believed, the model would notice."""

from __future__ import annotations

import pytest
from tests.model.absence import search_a_stubbed_list, search_elsewhere
from tests.model.bugs import Bug, Patch, assert_the_model_sees
from tests.model.test_catches_bugs import look_away
from tests.model.world import World, world

from carpool_worker.pipeline.submission import rescuer
from carpool_worker.store.claude_keys import KnownKeys

__all__ = ["world"]


def believe_any_list(patch: Patch) -> None:
    look_away(patch)
    patch.setattr(rescuer, "_disbelief", lambda _: None)


def take_any_key_for_ours(patch: Patch) -> None:
    look_away(patch)
    patch.setattr(KnownKeys, "of_one_workspace", lambda *_: True)


def test_a_list_that_shows_nothing_of_ours_is_not_believed(world: World) -> None:
    search_a_stubbed_list(world)


def test_a_key_of_another_workspace_is_not_believed(world: World) -> None:
    search_elsewhere(world)


BUGS = {
    "a list believed that shows nothing of ours": Bug(
        believe_any_list, search_a_stubbed_list, "assert_nothing_is_paid_for_twice"
    ),
    "a key believed that is of another workspace": Bug(
        take_any_key_for_ours, search_elsewhere, "assert_nothing_is_paid_for_twice"
    ),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_the_model_sees(world: World, monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    assert_the_model_sees(bug, world, monkeypatch)
