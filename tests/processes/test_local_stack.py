"""What `carpool up` brings along and what it takes from the environment; no process is started."""

from __future__ import annotations

import base64
import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from carpool_worker.processes.data_folder import AlreadyRunning, FolderUnusable, lock
from carpool_worker.processes.local_stack import LOOPBACK, free_port, prepare
from carpool_worker.processes.supervision import configuration, programs
from carpool_worker.processes.up_screen import print_addresses


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("CARPOOL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_embeds_everything_where_nothing_is_given(tmp_path: Path) -> None:
    # When a plan is made for an empty folder
    plan = prepare(tmp_path / "data", any_port=True)

    # Then it has a Valkey, a SQLite database, a simulator, and a secret that Standard Webhooks allows
    assert plan.redis_url == f"redis://127.0.0.1:{plan.valkey_port}/0"
    assert plan.database_url == f"sqlite:///{tmp_path}/data/carpool.db"
    assert plan.for_programs()["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{plan.simulator_port}"
    assert 24 <= len(base64.b64decode(plan.webhook_secret.removeprefix("whsec_"), validate=True)) <= 64
    assert prepare(tmp_path / "data", any_port=True).webhook_secret == plan.webhook_secret


def test_given_servers_and_an_api_key_take_the_place_of_embedded_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a Redis, a PostgreSQL and an API key
    given = {
        "CARPOOL_REDIS_URL": "redis://:secret@redis.example.com/0",
        "CARPOOL_DATABASE_URL": "postgresql://db.example.com/carpool",
        "CARPOOL_WEBHOOK_SECRET": f"whsec_{'A' * 32},whsec_{'B' * 32}",
        "ANTHROPIC_API_KEY": "sk-ant-not-a-key",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    # When two plans are made, one after the other
    for _ in range(2):
        plan = prepare(tmp_path / "data", any_port=True)

        # Then both use what is given, and run only what is left
        assert (
            plan.for_services().items()
            >= {k: v for k, v in given.items() if k != "ANTHROPIC_API_KEY"}.items()
        )
        assert "ANTHROPIC_BASE_URL" not in plan.for_programs()
        names = [program.name for program in programs(plan, latency=1, concurrency=1)]
        assert names == ["gateway", "console", "beat", "worker", "flower", "metrics"]


def test_it_prints_where_each_part_is_the_console_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = prepare(tmp_path, any_port=True)

    print_addresses(plan, None)

    _, first, *others = capsys.readouterr().out.splitlines()
    assert first.split() == ["Console", plan.console_link]
    places = dict(line.split()[:2] for line in others)
    assert (places["Gateway"], places["Flower"]) == (plan.gateway_url, plan.flower_url)
    assert "simulator" in next(line for line in others if "Claude" in line)


def test_a_shell_that_sourced_the_env_file_still_gets_embedded_servers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given a shell that sourced what an earlier run wrote
    prepare(tmp_path, any_port=True)
    script = f"source {shlex.quote(str(tmp_path / 'env'))}; env -0"
    sourced = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    for pair in sourced.split("\0"):
        if pair.startswith(("CARPOOL_", "ANTHROPIC_")):
            monkeypatch.setenv(*pair.split("=", 1))

    # When another run is planned there, Then it embeds as before
    plan = prepare(tmp_path, any_port=True)
    assert plan.embedded == {"CARPOOL_REDIS_URL", "CARPOOL_DATABASE_URL", "CARPOOL_WEBHOOK_SECRET"}
    assert plan.valkey_port

    # And its worker does not take the gateway for Anthropic
    assert plan.simulator_url
    assert plan.for_programs()["ANTHROPIC_BASE_URL"] == plan.simulator_url
    assert plan.for_shells()["ANTHROPIC_BASE_URL"] == plan.gateway_url


def test_a_taken_port_gives_way_to_the_next_free_one() -> None:
    # Given a port that something listens on
    with socket.create_server((LOOPBACK, 0)) as server:
        taken = server.getsockname()[1]

        # When that port is preferred, Then a later one is chosen
        assert taken < free_port(taken, any_port=False) <= taken + 100


def test_a_data_folder_has_one_carpool_at_a_time(tmp_path: Path) -> None:
    # Given a folder that is locked
    held = lock(tmp_path)

    # When it is locked again, Then the error says by whom it is
    with pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}\)"):
        lock(tmp_path)

    # And once it is let go, the next one has it
    held.close()
    lock(tmp_path).close()


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderUnusable, match=rf"{tmp_path}/file/data can't be used: Not a directory"):
        lock(tmp_path / "file" / "data")


def test_supervisor_reads_the_configuration_as_it_was_meant(tmp_path: Path) -> None:
    # Given a data folder whose name has everything that could be misread
    data = tmp_path / "50% of; it's here"
    plan = prepare(data, any_port=True)
    running = programs(plan, latency=2.5, concurrency=3)
    conf = tmp_path / "supervisord.conf"
    conf.write_text(configuration(plan, running))

    # When supervisor reads its configuration
    options = ServerOptions()
    options.realize(["-c", str(conf)])

    # Then it has each program's command and log, and stops the agents together, before what they need
    groups = {group.name: group for group in options.process_group_configs}
    read = {one.name: one for group in groups.values() for one in group.process_configs}
    for program in running:
        assert shlex.split(read[program.name].command)[3:] == program.command
        assert read[program.name].stdout_logfile == str(data / "logs" / f"{program.name}.log")
    agents, servers = groups["agents"], groups["servers"]
    assert agents.priority > servers.priority
    assert {one.name for one in agents.process_configs} == {
        "gateway",
        "console",
        "beat",
        "worker",
        "flower",
        "metrics",
    }
    assert {one.name for one in servers.process_configs} == {"simulator", "valkey"}
