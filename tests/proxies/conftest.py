"""Tests behind real proxies, for `make proxies`: packages of the system bring them."""

from __future__ import annotations

import os

from tests.fixtures.gateway import (
    gateway_database,
    gateway_engine,
    idle_carpool,
    run_gateway,
    secret,
    working_carpool,
)
from tests.fixtures.proxies import USED

__all__ = ["gateway_database", "gateway_engine", "idle_carpool", "run_gateway", "secret", "working_carpool"]

collect_ignore_glob = [] if USED in os.environ else ["test_*.py"]
