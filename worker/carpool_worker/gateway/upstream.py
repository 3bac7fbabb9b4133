"""The API itself, asked with the operator's key for what it answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from carpool_worker.claude.credentials import Credentials, missing, read_credentials
from carpool_worker.exceptions import ClaudeError
from carpool_worker.gateway.errors import FULL_RETRY_AFTER, GatewayError
from carpool_worker.policies.accounts import Accounts

if TYPE_CHECKING:
    from carpool_worker.claude.client import Claude, DirectAnswer

CALLS_AT_ONCE = 16
"""Each takes a thread until the API has answered."""

MOST_WAITING = 200
"""Calls that may wait for such a thread: at some 16 a second, they wait for seconds, not minutes."""


class Upstream:
    """The API, with the keys of all accounts as they are at the moment of a call."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, "upstream")
        self._clients: dict[Credentials, Claude] = {}
        self._lock = Lock()
        self._waiting = 0

    async def ask(
        self,
        account: str | None,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> DirectAnswer:
        """Return what the API answers, errors included, to a call with an account's key.

        Raises:
            GatewayError: 502 if no answer came, 529 if too many calls wait.
        """
        if self._waiting >= CALLS_AT_ONCE + MOST_WAITING:
            message = "Overloaded: too many calls wait for the API."
            raise GatewayError(529, message, retry_after=FULL_RETRY_AFTER)
        self._waiting += 1
        try:
            call = partial(self._call, account, method, path, headers, body)
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except ClaudeError as error:
            raise GatewayError(502, f"The API can't be asked: {error}") from None
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Close the connections, once the calls under way are over."""
        await asyncio.to_thread(self._threads.shutdown)
        for client in self._clients.values():
            client.close()

    def _call(
        self, account: str | None, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> DirectAnswer:
        return self._client(account).call(method, path, headers, body)

    def _client(self, account: str | None) -> Claude:
        in_use = (one for one in read_credentials(self._accounts) if not one.is_retired)
        credentials = next((one for one in in_use if one.account == account), missing(account))
        with self._lock:
            if credentials not in self._clients:
                from carpool_worker.claude.client import Claude  # the SDK takes seconds to import

                self._clients[credentials] = Claude(credentials=credentials)
            return self._clients[credentials]
