"""Fixtures of the papers' tests: the `carpool up` of the acceptance tests."""

from __future__ import annotations

from tests.acceptance.conftest import running_carpool

__all__ = ["running_carpool"]
