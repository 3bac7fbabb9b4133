"""A simulator on a free port for each test that asks for one, driven by the real SDK and by plain HTTP."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types.messages import MessageBatch
from tests.fixtures.waiting import until

from carpool_worker.simulator import RemoteSimulator, SimulatorOptions, running

SERVE = """
import sys
from pathlib import Path
from carpool_worker.simulator import SimulatorOptions, serve
serve(SimulatorOptions(data=Path(sys.argv[1]), latency=float(sys.argv[2])))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., RemoteSimulator]]:
    """Start simulators with the options given, on one data folder; all stop when the test ends."""
    with ExitStack() as stack:

        def start_one(**options: Any) -> RemoteSimulator:
            return stack.enter_context(running(SimulatorOptions(data=tmp_path / "data", **options)))

        yield start_one


@pytest.fixture
def simulator(start: Callable[..., RemoteSimulator]) -> RemoteSimulator:
    """A simulator whose batches run at once."""
    return start()


@pytest.fixture
def connect() -> Iterator[Callable[[RemoteSimulator], Anthropic]]:
    """Connect the SDK to a simulator, without retries of its own."""
    with ExitStack() as stack:

        def connect_one(simulator: RemoteSimulator) -> Anthropic:
            return stack.enter_context(
                Anthropic(api_key="sk-simulated", base_url=simulator.url, max_retries=0, timeout=10)
            )

        yield connect_one


@pytest.fixture
def claude(simulator: RemoteSimulator, connect: Callable[[RemoteSimulator], Anthropic]) -> Anthropic:
    """The SDK, connected to the simulator."""
    return connect(simulator)


@pytest.fixture
def http(simulator: RemoteSimulator) -> Iterator[httpx2.Client]:
    """Plain HTTP to the simulator, authenticated the older way."""
    headers = {"x-api-key": "sk-simulated", "anthropic-version": "2023-06-01"}
    with httpx2.Client(base_url=simulator.url, headers=headers, timeout=10) as client:
        yield client


@pytest.fixture
def request_of() -> Callable[..., dict[str, Any]]:
    """Write a request of a batch, as the API takes it."""

    def write(custom_id: str, text: str = "Hello", **params: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        defaults = {"model": "claude-haiku-4-5", "max_tokens": 256, "messages": messages}
        merged = {name: value for name, value in (defaults | params).items() if value is not ...}
        return {"custom_id": custom_id, "params": merged}

    return write


@pytest.fixture
def ended() -> Callable[[Anthropic, str], MessageBatch]:
    """Wait until a batch has ended."""

    def wait(claude: Anthropic, batch_id: str) -> MessageBatch:
        def ended_batch() -> MessageBatch | None:
            batch = claude.messages.batches.retrieve(batch_id)
            return batch if batch.processing_status == "ended" else None

        return until(ended_batch, waiting_for=f"{batch_id} to end")

    return wait


@pytest.fixture
def results(ended: Callable[[Anthropic, str], MessageBatch]) -> Callable[[Anthropic, str], dict[str, Any]]:
    """Wait for a batch's end and return its results by custom_id, in the order they came."""

    def read(claude: Anthropic, batch_id: str) -> dict[str, Any]:
        ended(claude, batch_id)
        return {line.custom_id: line.result for line in claude.messages.batches.results(batch_id)}

    return read


class Server:
    """A simulator in a process of its own."""

    def __init__(self, data: Path, latency: float) -> None:
        command = [sys.executable, "-c", SERVE, str(data), str(latency)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.simulator = RemoteSimulator(self.process.stdout.readline().split()[-1])

    def peak_memory(self) -> int:
        """Bytes that the process has had in memory at most, by the kernel's account."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024

    def stop(self, number: int) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(10)


@pytest.fixture
def serve() -> Iterator[Callable[[Path, float], Server]]:
    """Start simulators in processes of their own, on this data and with this latency; all are killed in the end."""
    with ExitStack() as stack:

        def start_one(data: Path, latency: float) -> Server:
            server = Server(data, latency)
            stack.callback(server.stop, signal.SIGKILL)
            return server

        yield start_one
