"""Which programs run, as supervisord's log says."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from carpool_worker.processes.programs_log import ProgramsLog

EARLIER = "2026-11-30 18:00:00,000 INFO spawned: 'worker' with pid 1\n"
LINES = """\
2026-11-30 18:34:43,336 INFO spawned: 'beat' with pid 11
2026-11-30 18:34:43,348 INFO spawned: 'worker' with pid {pid}
2026-11-30 18:34:43,349 INFO spawned: 'flower' with pid 13
2026-11-30 18:34:45,612 INFO success: beat entered RUNNING state, process has stayed up for > than 2 seconds
2026-11-30 18:36:48,197 INFO stopped: beat (exit status 0)
2026-11-30 18:36:48,198 WARN exited: flower (terminated by SIGKILL; not expected)
"""


def test_what_was_started_and_has_not_ended_runs_and_can_be_killed(tmp_path: Path) -> None:
    # Given a log of an earlier run, and then one in which a program is left
    path = tmp_path / "supervisord.log"
    path.write_text(EARLIER)
    log = ProgramsLog(path)
    assert log.running() == {}
    with subprocess.Popen(["sleep", "600"], process_group=0) as left:
        path.write_text(EARLIER + LINES.format(pid=left.pid))
        assert log.running() == {"worker": left.pid}

        # When all but it are killed, Then it lives; else not
        log.kill(but=["worker"])
        assert left.poll() is None
        log.kill()
        assert left.wait(10) == -signal.SIGKILL
    log.kill()  # what is gone already is no error
    assert os.getpid()
