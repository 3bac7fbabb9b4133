"""Tests with a real Prometheus, for `make prometheus`: it needs a server that no wheel has."""

from __future__ import annotations

import os

ASKED = "CARPOOL_TESTS_PROMETHEUS"

collect_ignore_glob = [] if ASKED in os.environ else ["test_*.py"]
