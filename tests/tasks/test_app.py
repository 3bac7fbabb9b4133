"""Celery is configured as a careful operator would have it."""

from __future__ import annotations

from typing import Any

import pytest

from carpool_worker.app import app, configuration
from carpool_worker.coordination.broker_urls import VISIBILITY_TIMEOUT
from carpool_worker.coordination.keys import AGENTS, queue
from carpool_worker.policies.in_doubt import longest_post
from carpool_worker.setting_values import LONGEST_SUBMIT_TIMEOUT
from carpool_worker.settings import read_settings


@pytest.fixture
def configured() -> dict[str, Any]:
    return configuration(read_settings(redis_url="redis://example:6379/3"))


def test_a_message_is_acknowledged_late_and_one_is_taken_at_a_time(configured: dict[str, Any]) -> None:
    assert configured["task_acks_late"]
    assert configured["worker_prefetch_multiplier"] == 1


def test_messages_are_json_and_results_are_kept_nowhere(configured: dict[str, Any]) -> None:
    assert configured["task_serializer"] == configured["event_serializer"] == "json"
    assert configured["accept_content"] == ["json"]
    assert configured["result_backend"] is None
    assert configured["task_ignore_result"]


def test_a_broker_that_is_away_is_waited_for_without_end(configured: dict[str, Any]) -> None:
    assert configured["broker_url"] == "redis://example:6379/3"
    assert configured["broker_connection_retry_on_startup"]
    assert configured["broker_connection_max_retries"] is None
    assert configured["broker_transport_options"]["visibility_timeout"] == VISIBILITY_TIMEOUT


def test_a_worker_stops_softly_and_its_children_are_bound_in_memory(configured: dict[str, Any]) -> None:
    assert configured["worker_soft_shutdown_timeout"] > 0
    assert 0 < configured["worker_max_memory_per_child"] <= 256_000


def test_no_task_outlives_the_visibility_timeout(configured: dict[str, Any]) -> None:
    assert configured["task_time_limit"] < VISIBILITY_TIMEOUT


def test_the_longest_post_that_settings_allow_ends_long_before_its_message_goes_out_again() -> None:
    slowest = configuration(read_settings(submit_timeout=LONGEST_SUBMIT_TIMEOUT))

    assert longest_post(LONGEST_SUBMIT_TIMEOUT) < VISIBILITY_TIMEOUT / 2
    assert slowest["task_time_limit"] < VISIBILITY_TIMEOUT


def test_each_agent_has_a_queue_and_an_exchange_of_its_own(configured: dict[str, Any]) -> None:
    names = [(one.name, one.exchange.name, one.routing_key) for one in configured["task_queues"]]

    assert names == [(queue(agent),) * 3 for agent in AGENTS]


def test_beat_drives_every_state_on_and_its_ticks_depend_on_no_clock(configured: dict[str, Any]) -> None:
    ticks = configured["beat_schedule"]

    agents = ("aggregate", "reply", "stage", "call", "poll", "rescue", "prune", "recount", "audit")
    assert set(ticks) == {f"carpool.{name}" for name in agents}
    for name, tick in ticks.items():
        assert tick["task"] == name
        assert tick["options"]["queue"] in {queue(agent) for agent in AGENTS}
        assert tick["schedule"] > 0
        assert "expires" not in tick["options"]  # a worker's clock may be ahead of beat's


def test_every_tick_is_a_task_and_none_of_carpools_tasks_is_shown_in_flower() -> None:
    for module in ("agents", "calls", "enqueue"):
        app.loader.import_task_module(f"carpool_worker.tasks.{module}")
    tasks = {name: task for name, task in app.tasks.items() if name.startswith("carpool.")}

    assert set(app.conf.beat_schedule) < set(tasks)
    assert not any(task.send_events for task in tasks.values())
    assert all(task.acks_late for task in tasks.values())
