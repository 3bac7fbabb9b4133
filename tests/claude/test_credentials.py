"""Which key Carpool calls the API with, where the environment has the one of its own gateway."""

from __future__ import annotations

import pytest

from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import VARIABLES, Credentials, variable
from carpool_worker.exceptions import ClaudeError
from carpool_worker.policies.keys import new_secret
from carpool_worker.simulator import RemoteSimulator


@pytest.mark.parametrize("name", VARIABLES)
def test_a_key_of_the_gateway_is_sent_nowhere(
    monkeypatch: pytest.MonkeyPatch, simulator: RemoteSimulator, name: str
) -> None:
    # Given a shell that sourced the `env` file of `carpool up`
    for other in VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.url)
    monkeypatch.setenv(name, new_secret())
    claude = Claude()

    with pytest.raises(ClaudeError, match="one of a Carpool gateway") as caught:
        claude.newest({}, 1)

    claude.close()
    assert caught.value.certain
    assert caught.value.status == 401
    assert variable() is None


def test_an_account_may_name_it(monkeypatch: pytest.MonkeyPatch, simulator: RemoteSimulator) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", new_secret())
    claude = Claude(credentials=Credentials(api_key=new_secret(), base_url=simulator.url))

    assert claude.newest({}, 1) == []

    claude.close()
