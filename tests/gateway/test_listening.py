"""Where a gateway listens: beyond this machine only with TLS, its own or a proxy's."""

from __future__ import annotations

import ssl
from pathlib import Path

import anthropic
import pytest
import trustme
from tests.fixtures.agents import request
from tests.fixtures.command_line import run
from tests.fixtures.gateway import RunGateway, WorkingCarpool

from carpool_worker.exceptions import WorkerError
from carpool_worker.processes.listening import Exposed, Listening


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "gateway.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gateway.example.com"])
def test_it_does_not_listen_in_clear_beyond_this_machine(host: str) -> None:
    with pytest.raises(Exposed, match="--tls-certificate"):
        Listening(host, 0).check()

    Listening(host, 0, behind_proxy=True).check()
    Listening(host, 0, Path("gateway.pem")).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_this_machine_it_does(host: str) -> None:
    Listening(host, 0).check()


def test_the_command_says_so_in_one_line(command_line: None) -> None:
    refused = run("gateway", "--host", "0.0.0.0")

    assert refused.exit_code == 1
    assert refused.output.startswith("carpool: 0.0.0.0 can be reached from other machines")


def test_a_certificate_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"missing\.pem can't be used"):
        Listening("127.0.0.1", 0, tmp_path / "missing.pem").tls()


def test_the_sdk_talks_to_it_over_tls(
    run_gateway: RunGateway,
    secret: str,
    working_carpool: WorkingCarpool,
    authority: trustme.CA,
    certificate: Path,
    tmp_path: Path,
) -> None:
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with (
        run_gateway(listening=Listening("127.0.0.1", 0, certificate)) as url,
        anthropic.DefaultHttpxClient(verify=trusted) as http,
        anthropic.Anthropic(base_url=url, api_key=secret, http_client=http) as client,
    ):
        assert url.startswith("https://")
        assert client.messages.create(**request()).role == "assistant"
