"""Tests with a real RabbitMQ as `broker_url`, for `make rabbitmq`: it needs a server that no wheel has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.conftest import running_carpool
from tests.fixtures.rabbitmq import SERVER, RabbitServer

__all__ = ["running_carpool"]

collect_ignore_glob = [] if SERVER in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ on a free port of 127.0.0.1."""
    folder: Path = tmp_path_factory.mktemp("rabbitmq")
    with RabbitServer(folder) as server:
        yield server
