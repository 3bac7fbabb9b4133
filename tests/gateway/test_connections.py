"""Several calls on one connection: each has its own headers, however they arrive."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

from tests.fixtures.agents import request

BODY = json.dumps(request()).encode()


def call_with(secret: str, *headers: str) -> bytes:
    """Return a call as it goes over the wire."""
    own = (f"x-api-key: {secret}", f"Content-Length: {len(BODY)}", "Prefer: respond-async")
    lines = ["POST /v1/messages HTTP/1.1", "Host: here", *headers, *own, "", ""]
    return "\r\n".join(lines).encode() + BODY


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the gateway closes the connection."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_calls_that_follow_at_once_keep_their_own_headers(gateway: str, secret: str) -> None:
    # The parser's headers of one call are cleared, which must not be those of the next, wherever that is cut
    place = urlsplit(gateway)
    one, longer = call_with(secret), call_with(secret, "accept: */*")
    last = call_with(secret, "Connection: close")
    cuts = [at + 4 for at in range(len(longer)) if longer.startswith(b"\r\n", at)]
    for cut in (1, *cuts):
        with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as connection:
            connection.sendall(one + longer[:cut])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 202")
            connection.sendall(longer[cut:] + last)
            assert received(connection).count(b"HTTP/1.1 202") == 2, cut
