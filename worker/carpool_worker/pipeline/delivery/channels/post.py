"""One post at a time through libcurl: a handle that is used again and again, and what it keeps of an answer."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from time import monotonic
from typing import Any

import certifi
import pycurl

from carpool_worker.pipeline.delivery.addresses import LentSocket, Networks, TargetRefused, open_socket
from carpool_worker.pipeline.delivery.channels.targets import Found, Target

ANSWER_BYTES = 1_024
"""Read of a receiver's answer; if it sends more, its connection is closed."""

LARGE_BODY = 65_536
"""A body of this many bytes or more is not kept until the handle's next post."""

UNSENT = ["Expect:", "Accept:"]
"""Headers that libcurl would add. A receiver that is asked for a 100 first and doesn't send it costs a second."""

FIXED: Mapping[int, object] = {
    pycurl.POST: 1,
    pycurl.USERAGENT: "carpool",
    pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
    pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_2TLS,  # HTTP/2 where TLS offers it, else HTTP/1.1
    pycurl.PATH_AS_IS: 1,
    pycurl.FOLLOWLOCATION: 0,
    pycurl.NETRC: 0,
    pycurl.SSL_VERIFYPEER: 1,
    pycurl.SSL_VERIFYHOST: 2,
    pycurl.PROXY_SSL_VERIFYPEER: 1,
    pycurl.PROXY_SSL_VERIFYHOST: 2,
    pycurl.HTTPPROXYTUNNEL: 1,  # plain http too: a proxy that forwards would see and could change it
    pycurl.NOPROXY: "",  # nor does the environment decide
    pycurl.NOSIGNAL: 1,
}
"""Options of each handle. Cookies, decompression, HSTS and Alt-Svc are off unless asked for."""


def trust() -> dict[int, object]:
    """Return the options that name the certificates to trust: the system's, as OpenSSL's SSL_CERT_* name them.

    Where the system has none, as on macOS, those of certifi are used.
    """
    paths = ssl.get_default_verify_paths()
    authorities = paths.cafile or certifi.where()
    options: dict[int, object] = {pycurl.CAINFO: authorities, pycurl.PROXY_CAINFO: authorities}
    if paths.openssl_capath_env in os.environ and paths.capath:
        options |= {pycurl.CAPATH: paths.capath, pycurl.PROXY_CAPATH: paths.capath}
    return options


class Post:
    """A handle of libcurl for one post after another.

    `on_open` is called before each new socket; where `proxy` is not empty, sockets lead there and nowhere else.
    """

    def __init__(
        self, options: Mapping[int, object], proxy: str, allowed: Networks, on_open: Callable[[], None]
    ) -> None:
        self._proxy = proxy
        self._allowed = allowed
        self._on_open = on_open
        self._target: Target | None = None
        self.curl: Any = pycurl.Curl()
        for option, value in {**FIXED, **options}.items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.PROXY, proxy)  # empty: none, whatever the environment says
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._take_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._take_body)

    def prepare(
        self, target: Target, found: Found, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> None:
        """Set all that the next post needs; it may take `seconds`."""
        self._is_public = target.is_public
        self._opened = self._refused = False
        self._read = b""
        self._head_ended_at = 0.0
        self.retry_after: str | None = None
        set_option = self.curl.setopt
        if found.entry and not found.is_loaded:
            set_option(pycurl.RESOLVE, [found.entry])
        if target is not self._target:
            set_option(pycurl.URL, target.origin)
            set_option(pycurl.REQUEST_TARGET, target.path)
            self._target = target
        set_option(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()] + UNSENT)
        set_option(pycurl.POSTFIELDS, body)
        set_option(pycurl.TIMEOUT_MS, max(1, round(seconds * 1_000)))

    def release(self, body: bytes) -> None:
        """Drop a large body."""
        if len(body) >= LARGE_BODY:
            self.curl.setopt(pycurl.POSTFIELDS, b"")

    @property
    def status(self) -> int | None:
        """The status of a receiver whose answer's head has come whole."""
        status = int(self.curl.getinfo(pycurl.RESPONSE_CODE)) if self._head_ended_at else 0
        return status if status >= 200 else None  # below, it is interim

    @property
    def is_refused(self) -> bool:
        """Whether no socket was made because webhooks may not reach the addresses."""
        return self._refused and not self._opened

    @property
    def answer(self) -> str:
        """The start of the answer."""
        return self._read.decode(errors="replace")

    def has_answered_before(self, moment: float) -> bool:
        """Return whether the answer's head came before this moment, on the monotonic clock."""
        return 0 < self._head_ended_at < moment and self.status is not None

    def _open(self, _purpose: int, address: Any) -> Any:
        """Check the address that libcurl connects to, and return the socket for it."""
        self._on_open()
        family, kind, protocol, (host, *_) = address
        try:
            if self._proxy:
                opened = LentSocket(family, kind, protocol)
            else:
                opened = open_socket(
                    family, kind, protocol, str(ip_address(host)), self._allowed, self._is_public
                )
        except TargetRefused:
            self._refused = True
            return pycurl.SOCKET_BAD
        except OSError:  # too many open files
            return pycurl.SOCKET_BAD
        self._opened = True
        return opened

    def _take_header(self, line: bytes) -> None:
        if line == b"\r\n":
            self._head_ended_at = monotonic()
        elif line.startswith(b"HTTP/"):  # interim answers and a proxy's come before the receiver's
            self._head_ended_at = 0.0
            self.retry_after = None
        elif line[:12].lower() == b"retry-after:":
            self.retry_after = line[12:].decode("latin-1").strip()

    def _take_body(self, data: bytes) -> int:
        room = ANSWER_BYTES - len(self._read)
        self._read += data[:room]
        return min(len(data), room)  # less than it was given ends the transfer
