"""What a proxy's refusal proves: without a tunnel nothing of a post has left; a 407 in answer to it proves nothing."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from carpool_worker.claude.client import Claude
from carpool_worker.claude.credentials import Credentials
from carpool_worker.claude.fence import Fence
from carpool_worker.exceptions import ClaudeError
from carpool_worker.policies.retries import Doubt, Postpone, after_submission

BODY = b'{"requests": []}'


@contextmanager
def proxy(answer: str) -> Iterator[tuple[str, bytearray]]:
    """Yield the URL of a proxy that answers like this and closes, and what it received."""
    received = bytearray()

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.settimeout(30)
            while not (received.endswith(BODY) or (received[:7] == b"CONNECT" and b"\r\n\r\n" in received)):
                received.extend(connection.recv(65_536))
            connection.sendall(f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", received
        thread.join()


def refused(address: str) -> ClaudeError:
    claude = Claude(credentials=Credentials(api_key="sk-ant-simulated", base_url=address))
    with pytest.raises(ClaudeError) as caught:
        claude.create(io.BytesIO(BODY), len(BODY), {}, Fence(60.0))
    claude.close()
    return caught.value


@pytest.fixture(autouse=True)
def no_other_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("answer", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
def test_a_proxy_that_opens_no_tunnel_was_given_nothing(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    # Given
    with proxy(answer) as (url, received):
        monkeypatch.setenv("HTTPS_PROXY", url)

        # When
        error = refused("https://claude.invalid")

    # Then the batch may be posted again
    assert received.startswith(b"CONNECT claude.invalid:443 ")
    assert b"POST" not in received
    assert error.certain
    assert isinstance(after_submission(error, 1), Postpone)


def test_a_407_in_answer_to_a_post_leaves_it_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a proxy that is handed the whole post
    with proxy("407 Proxy Authentication Required") as (url, received):
        monkeypatch.setenv("HTTP_PROXY", url)

        # When
        error = refused("http://claude.invalid")

    # Then whoever said that, it may have come after the post was passed on
    assert received.startswith(b"POST http://claude.invalid/v1/messages/batches ")
    assert received.endswith(BODY)
    assert (error.status, error.certain) == (407, False)
    assert after_submission(error, 1) == Doubt()


@pytest.mark.parametrize("address", ["ftp://claude.invalid", "claude.invalid", "unix:///run/claude.sock"])
def test_an_address_of_another_kind_is_never_called(address: str) -> None:
    assert refused(address).certain
