"""Runs every command in the surroundings of this process, a fork each, and prints how each ended: a JSON object a line.

A program of its own, so that the imports are paid for once for all commands, and the commands share nothing else.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shlex
import signal
import sys
import tempfile
from typing import Any

from carpool_worker import cli, metrics, operations, views

FEW = 3
"""Arguments up to which the imports are left to the commands."""

MOST_SECONDS = 20
"""How long a command may run; those that serve until they are stopped end by this alone."""

REQUEST = "0" * 32
MODEL = "claude-haiku-4-5"

COMMANDS = (
    "up --any-port",
    "migrate",
    "worker",
    "beat",
    "flower",
    "metrics --port 0",
    "gateway --port 0",
    "console --port 0",
    "simulator --port 0",
    "listen --forward-to http://127.0.0.1:1/x",
    "trigger --forward-to http://127.0.0.1:1/x",
    "status",
    "doctor",
    "lanes",
    "reconcile",
    "flush",
    f"pause {MODEL}",
    f"resume {MODEL}",
    f"cancel {REQUEST} --yes",
    "retry --all --yes",
    "purge --client billing --yes",
    "enqueue -f requests.jsonl",
    "results --client billing",
    "usage",
    "advise",
    "batches",
    f"batches show {REQUEST}",
    f"batches resolve {REQUEST} --not-made --yes",
    "requests",
    f"requests show {REQUEST}",
    "deliveries",
    "deliveries replay --all --yes",
    f"deliveries show {REQUEST}",
    "deliveries endpoints",
    "clients",
    "clients show billing",
    "clients rotate-secret billing",
    "clients drop-secret billing",
    "keys create billing",
    "keys list",
    "keys show billing",
    "keys rotate billing",
    "keys revoke billing --yes",
    "quarantine",
    "quarantine show 1-1",
    "quarantine drop 1-1 --yes",
    "quarantine retry 1-1",
)
"""Each command, with the arguments that it can't do without. (`demo` is an `up` of its own.)"""


def ended(command: str) -> dict[str, object]:
    """Run a command in a fork of this process; return its exit code and what it wrote."""
    with _text_file() as out, _text_file() as err:
        if not (child := os.fork()):
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            signal.alarm(MOST_SECONDS)
            os._exit(_run(command))
        _, status = os.waitpid(child, 0)
        for file in (out, err):
            file.seek(0)
        code = os.waitstatus_to_exitcode(status)
        return {"command": command, "code": code, "out": out.read(), "err": err.read()}


def _text_file() -> Any:
    # Whatever the encoding of this process is, and whatever a command writes in it.
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape")


def _run(command: str) -> int:
    sys.argv = ["carpool", *shlex.split(command)]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _import_rooms() -> None:
    """Import what most commands import as they run: here it is paid for once."""
    for room in (views, operations, metrics):
        for found in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            importlib.import_module(found.name)


if __name__ == "__main__":
    if len(sys.argv) > FEW:
        _import_rooms()
    for one in sys.argv[1:] or COMMANDS:
        print(json.dumps(ended(one)), flush=True)
