"""A client of the control API, for tests and for the console: it arms faults, sets scripts and reads the ledger."""

from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec

from carpool_worker.simulator.faults import Fault
from carpool_worker.simulator.scripts import Script
from carpool_worker.simulator.workspaces import ApiKey

TIMEOUT_SECONDS = 30.0


class RemoteSimulator:
    """A simulator at `url`, in this process or another."""

    def __init__(self, url: str) -> None:
        self.url = url

    def arm(self, *faults: Fault) -> None:
        """Arm faults, after those already armed."""
        self._call("POST", "/simulator/faults", msgspec.json.encode(faults))

    def disarm(self) -> None:
        """Disarm all faults."""
        self._call("DELETE", "/simulator/faults")

    def waiting_faults(self) -> list[Fault]:
        """Return the faults that are still armed."""
        return msgspec.json.decode(self._call("GET", "/simulator/faults"), type=list[Fault])

    def script(self, *scripts: Script) -> None:
        """Add scripts, after those in force."""
        self._call("POST", "/simulator/scripts", msgspec.json.encode(scripts))

    def scripts_in_force(self) -> list[Script]:
        """Return all scripts."""
        return msgspec.json.decode(self._call("GET", "/simulator/scripts"), type=list[Script])

    def clear_scripts(self) -> None:
        """Remove all scripts."""
        self._call("DELETE", "/simulator/scripts")

    def assign(self, keys: Mapping[str, str | None]) -> None:
        """Assign API keys to workspaces, by their names; None revokes one."""
        assigned = [ApiKey(key, workspace) for key, workspace in keys.items()]
        self._call("POST", "/simulator/keys", msgspec.json.encode(assigned))

    def archive(self, batch_id: str) -> None:
        """Remove an ended batch's results, as happens 29 days after its creation."""
        self._call("POST", f"/simulator/batches/{batch_id}/archive", b"")

    def ledger(self) -> dict[str, Any]:
        """Return the ledger's totals."""
        return msgspec.json.decode(self._call("GET", "/simulator/ledger"), type=dict[str, Any])

    def ledger_entries(self) -> list[dict[str, Any]]:
        """Return the whole ledger, an entry for each request of each batch that ended."""
        lines = self._call("GET", "/simulator/ledger/entries").splitlines()
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]

    def repeats(self) -> list[tuple[str, str]]:
        """Return the two batches of each post that a fault repeated; the post was answered with the first."""
        return msgspec.json.decode(self._call("GET", "/simulator/ledger/repeats"), type=list[tuple[str, str]])

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {answer.decode()}")
        return answer
