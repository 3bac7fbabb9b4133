"""Tests with sources of an earlier commit, for `make upgrade`: they need the history, which not every clone has."""

from __future__ import annotations

import os

ASKED = "CARPOOL_TESTS_UPGRADE"

collect_ignore_glob = [] if ASKED in os.environ else ["test_*.py"]
