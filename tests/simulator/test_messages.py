"""The simulator answers single requests at once, as the SDK asks for them, and bills them at the full price."""

from __future__ import annotations

import anthropic
import pytest
from anthropic import Anthropic

from carpool_worker.simulator import Fault, RemoteSimulator, Script

ASKED = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}


def test_a_message_is_answered_and_in_the_ledger_by_its_key(
    claude: Anthropic, simulator: RemoteSimulator
) -> None:
    # When
    answered = claude.messages.create(**ASKED, extra_headers={"Idempotency-Key": "a" * 32})  # type: ignore[call-overload]
    # Then
    assert (answered.type, answered.usage.service_tier) == ("message", "standard")
    (entry,) = simulator.ledger_entries()
    assert (entry["batch_id"], entry["custom_id"]) == (answered.id, "a" * 32)
    ledger = simulator.ledger()
    assert (ledger["billed"], ledger["billed_in_real_time"], ledger["batches"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": "claude-unheard-of"}, "model: claude-unheard-of"),
        ({"messages": []}, "messages"),
    ],
)
def test_params_that_the_api_refuses_are_refused(
    claude: Anthropic, changed: dict[str, object], problem: str
) -> None:
    with pytest.raises(anthropic.APIStatusError, match=problem):
        claude.messages.create(**ASKED | changed)  # type: ignore[call-overload]


def test_faults_and_scripts_strike_messages(claude: Anthropic, simulator: RemoteSimulator) -> None:
    simulator.arm(Fault(operation="messages", kind="error", status=529))
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        claude.messages.create(**ASKED)  # type: ignore[call-overload]
    simulator.script(Script(text="As scripted."))
    assert claude.messages.create(**ASKED).content[0].text == "As scripted."  # type: ignore[call-overload]
    assert simulator.ledger()["billed"] == 1
