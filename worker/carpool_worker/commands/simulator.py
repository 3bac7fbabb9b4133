"""`carpool simulator`: a Message Batches API that runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from carpool_worker.commands.fault_kinds import fault_kind
from carpool_worker.commands.options import Address, Data, Latency, Port
from carpool_worker.exceptions import WorkerError

T = TypeVar("T")

QueueLimit = Annotated[
    int, typer.Option("--queue-limit", min=1, help="Requests that may wait in all batches together.")
]
Calls = Annotated[int, typer.Option(min=1, help="Calls of the Messages API that are allowed in a minute.")]
MessageLatency = Annotated[float, typer.Option(min=0, help="Seconds that a call of the Messages API takes.")]
Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        help="A fault to arm, as JSON or by a name of `carpool up --fault`; may be repeated.",
        show_default=False,
    ),
]
Scripts = Annotated[
    list[str] | None,
    typer.Option("--script", help="An outcome to script, as JSON; may be repeated.", show_default=False),
]


def simulator(
    data: Data = Path(".carpool/simulator"),
    host: Address = "127.0.0.1",
    port: Port = 8082,
    latency: Latency = 10.0,
    message_latency: MessageLatency = 0.0,
    queue_limit: QueueLimit = 200_000,
    messages_a_minute: Calls = 1_000,
    fault: Faults = None,
    script: Scripts = None,
) -> None:
    """Serve a simulated Message Batches API on this machine: it costs nothing, and its answers say what they are.

    It answers single calls, too (POST /v1/messages), as Carpool makes them for requests that are due soon.

    The anthropic SDK talks to it as it does to the real one. Example:

        carpool simulator --latency 5
        ANTHROPIC_BASE_URL=http://127.0.0.1:8082 ANTHROPIC_API_KEY=simulated python your_program.py

    Faults and outcomes can be ordered with these options, or while it runs: POST the same JSON to /simulator/faults or
    /simulator/scripts. GET /simulator/ledger returns what was run and billed, /simulator/ledger/entries line by line,
    and /simulator/ledger/repeats the pairs of batches that a `repeated` fault made of one post.

        carpool simulator --fault '{"operation": "create", "kind": "lost"}'
        carpool simulator --message-latency 2 --fault '{"operation": "messages", "kind": "lost", "times": 3}'
        carpool simulator --script '{"contains": "poison", "outcome": "errored", "error_type": "api_error"}'
    """
    from dataclasses import replace

    from carpool_worker.processes import preflight
    from carpool_worker.settings import settings
    from carpool_worker.simulator import Fault, Script, SimulatorOptions, serve
    from carpool_worker.simulator.kinds import KINDS
    from carpool_worker.telemetry import logs

    logs.begin(settings().log_format)
    preflight.check_port(host, port)
    options = SimulatorOptions(
        data=data,
        host=host,
        port=port,
        latency=latency,
        queue_limit=queue_limit,
        message_latency=message_latency,
        messages_per_minute=messages_a_minute,
    )
    named = [KINDS[fault_kind(name)] for name in fault or () if not name.startswith("{")]
    faults = _decoded("--fault", [text for text in fault or () if text.startswith("{")], Fault)
    scripts = _decoded("--script", script, Script)
    faults += [one for practice in named for one in practice.faults]
    scripts += [one for practice in named for one in practice.scripts]
    serve(replace(options, faults=faults, scripts=scripts))


def _decoded(option: str, texts: list[str] | None, kind: type[T]) -> list[T]:
    import msgspec

    try:
        return [msgspec.json.decode(text, type=kind) for text in texts or []]
    except msgspec.MsgspecError as error:
        raise WorkerError(f"{option}: {error}") from error
