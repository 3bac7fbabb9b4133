"""`carpool simulator` as a program: what its options about single calls do."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import anthropic
import httpx2
import pytest
from anthropic import Anthropic
from tests.conftest import free_port
from tests.fixtures.waiting import until

ASKED = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/simulator/ledger").status_code == 200
    except httpx2.TransportError:
        return False


def test_calls_take_the_latency_and_keep_to_the_limit_that_its_options_name(tmp_path: Path) -> None:
    # Given
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    place = ["--port", str(port), "--data", str(tmp_path / "simulator")]
    options = ["--message-latency", "0.4", "--messages-a-minute", "1"]
    command = [sys.executable, "-m", "carpool_worker.cli", "simulator", *place, *options]
    with (
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process,
        Anthropic(api_key="sk-simulated", base_url=url, max_retries=0, timeout=30) as claude,
    ):
        try:
            until(lambda: answers(url), 60)

            # When
            began = time.monotonic()
            claude.messages.create(**ASKED)  # type: ignore[call-overload]
            took = time.monotonic() - began

            # Then
            assert took >= 0.4
            with pytest.raises(anthropic.RateLimitError, match="1 requests per minute") as refused:
                claude.messages.create(**ASKED)  # type: ignore[call-overload]
            assert refused.value.response.headers["anthropic-ratelimit-requests-limit"] == "1"
            # And batches have a limit of their own
            assert list(claude.messages.batches.list()) == []
        finally:
            process.terminate()
