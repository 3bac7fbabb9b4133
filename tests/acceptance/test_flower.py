"""Flower as an operator sees it, with real processes: its rows outlive it, and it only shows."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from contextlib import suppress
from typing import Any

import psutil
from tests.acceptance.conftest import Carpool, RunningCarpool, until

from carpool import Producer

MODELS = ("claude-haiku-4-5", "claude-sonnet-4-5")
COLUMNS = ("name", "state", "args", "result", "received", "runtime", "uuid")
COUNTED = "flower_task_runtime_seconds_count{"


def ask(carpool: Carpool, path: str, *, password: bool = True, post: bool = False) -> tuple[int, str]:
    """Return the status and the text that Flower answers."""
    url = urllib.parse.urlsplit(carpool.flower_url)
    credentials = b64encode(f"{url.username}:{url.password}".encode()).decode()
    asked = urllib.request.Request(
        f"http://{url.hostname}:{url.port}{path}",
        headers={"Authorization": f"Basic {credentials}"} if password else {},
        data=b"{}" if post else None,
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def table(carpool: Carpool) -> list[dict[str, Any]]:
    """Return the rows of the tasks page, as its own script asks for them: those that are over, else nothing."""
    columns = {f"columns[{place}][data]": name for place, name in enumerate(COLUMNS)}
    order = {"draw": 1, "start": 0, "length": 50, "order[0][column]": 4, "order[0][dir]": "desc"}
    with suppress(OSError):  # it is being restarted
        status, text = ask(carpool, f"/tasks/datatable?{urllib.parse.urlencode(order | columns)}")
        rows = json.loads(text)["data"] if status == 200 else []
        if len(rows) == len(MODELS) and all(row["state"] == "SUCCESS" for row in rows):
            return [{name: row[name] for name in COLUMNS} for row in rows]
    return []


def hears(carpool: Carpool) -> bool:
    """Return whether Flower knows that the host of the batches is alive."""
    with suppress(OSError):  # it is starting
        return 'flower_worker_online{worker="batches@carpool"} 1.0' in ask(carpool, "/metrics")[1]
    return False


def counted(carpool: Carpool) -> list[str]:
    """Return the lines of /metrics that say how many batches of a model were timed."""
    _, text = ask(carpool, "/metrics", password=False)
    return sorted(line for line in text.splitlines() if line.startswith(COUNTED))


def test_each_batch_is_a_row_and_still_is_after_a_restart_of_flower(running_carpool: RunningCarpool) -> None:
    with running_carpool() as carpool:
        # Given a batch of each model, answered while Flower listened
        until(lambda: hears(carpool))
        with Producer(carpool.redis_url) as producer:
            ids = [
                producer.enqueue(
                    {
                        "model": model,
                        "max_tokens": 16,
                        "messages": [{"role": "user", "content": "Very SECRET"}],
                    }
                )
                for model in MODELS
            ]
            for request_id in ids:
                assert producer.wait(request_id, timeout=60).outcome == "succeeded"

        # Then Flower has a row for each, and how long each took in a histogram by model, up to a day
        before = until(lambda: table(carpool))
        assert {row["name"] for row in before} == {f"batch {model}" for model in MODELS}
        assert all(row["args"].startswith("1 request, ") for row in before)
        assert all(row["result"].startswith("1 succeeded · ") for row in before)
        assert all(row["received"] and row["runtime"] >= 0 for row in before)
        assert "SECRET" not in str(before)
        assert [line.split("} ")[1] for line in counted(carpool)] == ["1.0", "1.0"]
        assert 'le="86400.0",task="batch claude-haiku-4-5"' in ask(carpool, "/metrics")[1]

        # When Flower is killed outright and comes back
        flower = psutil.Process(carpool.pids()["flower"])
        flower.send_signal(signal.SIGKILL)
        flower.wait(30)

        # Then it has the same rows, on the page as well, and counts none of them a second time
        after = until(lambda: table(carpool))
        assert [{**row, "runtime": None} for row in after] == [{**row, "runtime": None} for row in before]
        assert all(row["runtime"] >= 0 for row in after)
        assert counted(carpool) == []
        _, page = ask(carpool, "/tasks")
        assert [name for name in COLUMNS if f'data-column="{name}"' in page] == list(COLUMNS)

        # And it shows nothing without the password, and lets nobody control anything
        assert ask(carpool, "/tasks", password=False)[0] == 401
        assert ask(carpool, "/api/tasks", password=False)[0] == 401
        assert ask(carpool, "/api/task/send-task/carpool.enqueue", post=True)[0] == 403
        assert ask(carpool, "/api/worker/shutdown/anyone", post=True)[0] == 403
