"""The doctor on what stands between this machine and the API: proxies, certificates, and keys that can't be sent."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from tests.fixtures.doctor import Doctor

from carpool_worker.claude.client import Claude
from carpool_worker.exceptions import ClaudeError
from carpool_worker.simulator import Fault, RemoteSimulator

NOWHERE = "http://127.0.0.1:9"
SECRET = "sk-ant-verysecret"


@pytest.fixture(autouse=True)
def no_surroundings(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    doctor.set(ANTHROPIC_API_KEY=SECRET, ANTHROPIC_BASE_URL="https://claude.invalid")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_that_does_not_answer_is_named_by_its_variable(doctor: Doctor, variable: str) -> None:
    doctor.set(**{variable: "http://user:password@127.0.0.1:9"})

    one = doctor.finds("claude", "wrong", f"through the proxy in {variable}")

    assert "NO_PROXY" in one.mend
    assert "password" not in str(one)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("proxy", "part"),
    [
        ("socks5://127.0.0.1:9", "SOCKS"),
        ("socks5h://127.0.0.1:9", "pip install socksio"),
        ("socks://127.0.0.1:9", "by socks://"),
        ("ftp://127.0.0.1:9", "by ftp://"),
        ("http://[::1", "is not the URL of a proxy"),
    ],
)
def test_a_proxy_that_no_client_could_be_made_for_is_named(
    doctor: Doctor, variable: str, proxy: str, part: str
) -> None:
    doctor.set(**{variable: proxy})

    doctor.finds("claude", "wrong", f"{variable} ")
    doctor.finds("claude", "wrong", part)

    # And each call says so, and that nothing was sent
    with pytest.raises(ClaudeError, match=variable) as raised:
        Claude().newest({}, 1)
    assert raised.value.certain


@pytest.mark.parametrize("contents", [None, "no certificate"])
def test_a_file_of_authorities_that_can_not_be_used_is_named(
    doctor: Doctor, tmp_path: Path, contents: str | None
) -> None:
    file = tmp_path / "ca.pem"
    if contents is not None:
        file.write_text(contents)
    doctor.set(SSL_CERT_FILE=str(file))

    doctor.finds("claude", "wrong", f"SSL_CERT_FILE names {file}")


def test_a_folder_of_authorities_that_is_not_there_is_named(doctor: Doctor) -> None:
    doctor.set(SSL_CERT_DIR="/nonexistent/authorities")

    doctor.finds("claude", "wrong", "SSL_CERT_DIR names /nonexistent/authorities")


def test_an_authority_that_is_there_is_none_of_the_doctors_business(doctor: Doctor, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    doctor.set(SSL_CERT_FILE=str(tmp_path / "ca.pem"))

    assert not [one for one in doctor() if "SSL_CERT_FILE" in str(one)]


@pytest.mark.parametrize(
    "surroundings",
    [
        {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "ALL_PROXY": NOWHERE},
        {"http_proxy": NOWHERE, "NO_PROXY": "example.com"},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"SSL_CERT_FILE": "/nonexistent/ca.pem"},
    ],
)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "127.0.0.9"])
def test_this_machine_is_never_asked_through_a_proxy(
    doctor: Doctor, simulator: RemoteSimulator, surroundings: dict[str, str], name: str
) -> None:
    # Given a simulator on this machine, and surroundings that no call could get through
    port = simulator.url.rpartition(":")[2]
    doctor.set(ANTHROPIC_BASE_URL=f"http://{name.replace('127.0.0.9', '127.0.0.1')}:{port}", **surroundings)

    # Then it answers, and what would stop a call to Anthropic is a warning at most
    doctor.finds("claude", "ok", "accepts the key")


@pytest.mark.parametrize(
    ("key", "part"),
    [
        (f"{SECRET}\n", "a newline"),
        (f"{SECRET}\r\n", "a carriage return"),
        (f" {SECRET}", "a space"),
        (f"{SECRET}\x07", "a control character"),
        (f"{SECRET}…", "a character beyond ASCII"),
    ],
)
@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_a_key_that_can_not_be_sent_is_named_and_not_shown(
    doctor: Doctor, simulator: RemoteSimulator, variable: str, key: str, part: str
) -> None:
    doctor.set(ANTHROPIC_BASE_URL=simulator.url, **{"ANTHROPIC_API_KEY": "", variable: key})

    one = doctor.finds("claude", "wrong", f"{variable} has {part}")

    assert SECRET not in str(one)


def test_a_token_alone_works_and_a_refused_one_is_named(doctor: Doctor, simulator: RemoteSimulator) -> None:
    doctor.set(ANTHROPIC_BASE_URL=simulator.url, ANTHROPIC_API_KEY="", ANTHROPIC_AUTH_TOKEN="token")
    doctor.finds("claude", "ok", "accepts the key")

    simulator.arm(Fault(operation="list", kind="error", status=401))
    assert "ANTHROPIC_AUTH_TOKEN" in doctor.finds("claude", "wrong", "401").mend


@pytest.mark.parametrize(
    "address", ["api.anthropic.com", "ftp://api.anthropic.com", "http://[::1", "https://"]
)
def test_an_address_that_is_no_url_is_named(doctor: Doctor, address: str) -> None:
    doctor.set(ANTHROPIC_BASE_URL=address)

    assert "ANTHROPIC_BASE_URL" in doctor.finds("claude", "wrong", "the API's address is no URL").mend
