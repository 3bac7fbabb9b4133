"""Fixtures of the gateway's tests."""

from __future__ import annotations

from tests.fixtures.gateway import (
    gateway,
    gateway_database,
    gateway_engine,
    idle_carpool,
    run_gateway,
    secret,
    working_carpool,
)

__all__ = [
    "gateway",
    "gateway_database",
    "gateway_engine",
    "idle_carpool",
    "run_gateway",
    "secret",
    "working_carpool",
]
