"""Bugs to be put in on purpose: what each is, what brings it to light, and the promise that is broken then."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from tests.model.world import World, make_tables

Patch = pytest.MonkeyPatch


class Bug(NamedTuple):
    """A bug, what brings it to light (crashes begin a little before the one that does), and the promise it breaks."""

    put_in: Callable[[Patch], None]
    attack: Callable[[World], object]
    promise: str
    guarded: bool = (
        True  # False: the tests' databases refuse it by themselves, so that the model needs one that does not
    )


def assert_the_model_sees(bug: Bug, world: World, patch: Patch) -> None:
    """Put the bug in, and see the attack end in the promise that it breaks."""
    make_tables(world.folder, guarded=bug.guarded)
    bug.put_in(patch)

    with pytest.raises(AssertionError) as caught:
        bug.attack(world)

    assert caught.traceback[-1].name == bug.promise, str(caught.getrepr())
