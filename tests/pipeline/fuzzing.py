"""How long the doors are fuzzed.

CARPOOL_FUZZ_EXAMPLES sets how many examples each test tries; then each run tries others.
"""

from __future__ import annotations

import os

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings

EXAMPLES = os.environ.get("CARPOOL_FUZZ_EXAMPLES")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def fuzzed(examples: int) -> settings:
    """Return Hypothesis' settings for a test that tries so many examples, the same ones in every run."""
    return settings(
        max_examples=int(EXAMPLES or examples),
        derandomize=EXAMPLES is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
