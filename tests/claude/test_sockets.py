"""What a post left in the kernel's buffers is dropped once its answer counts as lost."""

from __future__ import annotations

import io
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from carpool_worker.claude import sockets
from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import Credentials
from carpool_worker.claude.fence import Fence
from carpool_worker.exceptions import ClaudeError

LENGTH = 50_000_000
"""Bytes: more than the buffers of both sides hold."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the option")


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that takes connections and reads nothing; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_post_that_nobody_acknowledges_is_aborted(deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a server that reads nothing, and a second in which it would have to
    monkeypatch.setattr(sockets, "UNACKNOWLEDGED_SECONDS", 1.0)
    claude = Claude(credentials=Credentials(api_key="sk-ant-simulated", base_url=deaf))
    # When a batch is posted that may take an hour
    began_at = time.monotonic()
    with pytest.raises(ClaudeError, match="no answer: WriteTimeout") as caught:
        claude.create(io.BytesIO(bytes(LENGTH)), LENGTH, {}, Fence(3_600.0))
    claude.close()
    # Then the connection ends long before the client would have given up, and what was made is unknown
    assert time.monotonic() - began_at < 20.0
    assert not caught.value.certain
