"""The fence holds in the model: who stands still for hours pays for nothing twice; without it, the model notices."""

from __future__ import annotations

import pytest
from tests.model.frozen import freeze_at_every_point
from tests.model.world import World, world

from carpool_worker.pipeline.submission import submitter

__all__ = ["world"]


def test_a_submitter_that_stands_still_at_any_point_costs_nothing(world: World) -> None:
    assert freeze_at_every_point(world) > 5


def test_the_model_sees_a_post_that_does_not_look_whether_it_still_counts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitter, "_is_ours", lambda *_: True)

    with pytest.raises(AssertionError) as caught:
        freeze_at_every_point(world)

    assert caught.traceback[-1].name == "assert_nothing_is_paid_for_twice"
