"""Where a server listens, and that nothing secret crosses a network in clear."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from carpool_worker.exceptions import WorkerError


class Exposed(WorkerError):
    """What is secret would cross the network in clear."""


@dataclass(frozen=True)
class Listening:
    """Where a gateway or a console listens, and how."""

    host: str
    port: int
    certificate: Path | None = None  # of TLS, with its chain, PEM
    private_key: Path | None = None  # None: it is in the certificate's file
    behind_proxy: bool = False  # TLS ends at a proxy that alone can reach it

    def check(self) -> None:
        """Raise Exposed unless this machine alone can connect, or the connection is secret."""
        if not (self.certificate or self.behind_proxy or self.is_loopback):
            raise Exposed(
                f"{self.host} can be reached from other machines, which would send keys and prompts in clear: "
                "give --tls-certificate, or --behind-proxy if only a proxy that speaks TLS reaches it."
            )

    def tls(self) -> ssl.SSLContext | None:
        """Return the certificate, loaded; None without one. Raises WorkerError if it can't be read."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.certificate, self.private_key)
        except OSError as error:  # ssl's errors are OSErrors
            raise WorkerError(f"The certificate {self.certificate} can't be used: {error}") from error
        return context

    def url(self, port: int) -> str:
        """Return its address, with the port that it really has."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{port}"

    @property
    def is_loopback(self) -> bool:
        """Whether this machine alone can connect."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
