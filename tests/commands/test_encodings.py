"""Every command, on a terminal or in a file without UTF-8: none fails, and what is shown is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer
from tests.commands.test_cli import commands_of
from tests.commands.test_surroundings import runs
from tests.fixtures.retention import given_delivery, given_segment, row

from carpool_worker.cli import app
from carpool_worker.database import now, open_engine, write
from carpool_worker.models import Batch, Tag
from carpool_worker.states import BatchState, DeliveryState, RequestState
from carpool_worker.store.batches import lane_pauses
from carpool_worker.store.batches.filling import FRESH

ENCODINGS = (
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
)

STRANGE = "größe-模型"
SHOWN = re.compile("gr..e-..")
"""However it is encoded: as it is, or with question marks."""

BATCH, REQUEST = "0" * 31 + "b", f"{1:032x}"

SHOWING = (
    "batches",
    f"batches show {BATCH}",
    "requests",
    f"requests show {REQUEST}",
    "lanes",
)
"""They show a name that its user chose."""

OTHERS = (
    *("status", "clients", "clients show billing", "deliveries", f"deliveries show {REQUEST}", "usage"),
    *(
        "deliveries endpoints",
        "keys list",
        "keys create billing",
        "quarantine",
        "advise",
        "reconcile --since 1h",
    ),
    *(
        f"requests --tag {STRANGE}",
        f"batches show {STRANGE}",
        f"requests show {STRANGE}",
        f"cancel {STRANGE} --yes",
        f"pause {STRANGE}",
    ),
    *("results --client billing", f"enqueue -f {STRANGE}", "migrate", "doctor"),
)
"""They show frames, dashes and other signs; or are given a name that is none, and name it."""


@pytest.fixture
def filled(sqlite_url: str, migrated: Callable[[str], None]) -> str:
    """A database with names of many languages wherever users choose them."""
    migrated(sqlite_url)
    engine = open_engine(sqlite_url)
    final = {"state": BatchState.COMPLETED, "finished_at": now(), "tallied_at": now(), "submitting_at": now()}
    head = {"headers": "{}", "model": STRANGE, "lane": STRANGE, "opened_at": now(), "request_count": 1}
    with write(engine) as connection:
        connection.execute(sa.insert(Batch), FRESH | head | final | {"id": BATCH, "claude_id": "msgbatch_1"})
        connection.execute(
            sa.insert(Batch), FRESH | head | {"id": "0" * 31 + "c", "state": BatchState.SEALED}
        )
        lane_pauses.pause_by_operator(connection, STRANGE, STRANGE, now())
        connection.execute(sa.insert(Tag).values(client="billing", tag=STRANGE, request_id=REQUEST))
    failed = {"state": RequestState.DISCARDED, "outcome": "errored", "error": STRANGE, "model": STRANGE}
    said = {"metadata": f'{{"name": "{STRANGE}"}}', "custom_id": STRANGE, "batch_id": BATCH}
    given_segment(engine, 1, row(1, 0.5, **failed, **said))
    given_delivery(engine, REQUEST, DeliveryState.DISCARDED)
    engine.dispose()
    return sqlite_url


@pytest.mark.parametrize("environment", ENCODINGS)
def test_no_command_needs_utf8(
    filled: str, redis_url: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    names = [" ".join(path) for path, _ in commands_of(typer.main.get_command(app))]
    helps = tuple(f"{name} --help".strip() for name in names)
    where = {"CARPOOL_DATABASE_URL": filled, "CARPOOL_REDIS_URL": redis_url}

    ended = {
        run["command"]: run for run in runs(tmp_path, (*helps, *SHOWING, *OTHERS), **where, **environment)
    }

    for command, run in ended.items():
        assert "Traceback" not in run["err"], run
        assert run["out"] + run["err"], command
    assert {command: ended[command]["code"] for command in (*helps, *SHOWING)} == dict.fromkeys(
        (*helps, *SHOWING), 0
    )
    assert [command for command in SHOWING if not SHOWN.search(ended[command]["out"])] == []
