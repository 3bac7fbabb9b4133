"""Which workspace each API key belongs to. A key sees the batches of its own workspace only."""

from collections.abc import Iterable

import msgspec
from aiohttp import web

from carpool_worker.simulator.errors import ApiError

ORGANIZATION = "org_simulated"
DEFAULT_WORKSPACE = "wrkspc_default"
WORKSPACE_HEADER = "anthropic-workspace-id"

WORKSPACE: web.RequestKey[str] = web.RequestKey("workspace", str)
"""Of a call, once its key is checked."""


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key and its workspace; None: the key is revoked."""

    key: str
    workspace: str | None


class Workspaces:
    """The keys that were assigned to a workspace, or revoked; all others are valid, and of the default workspace."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys: dict[str, str | None] = {}
        self.assign(keys)

    def assign(self, keys: Iterable[ApiKey]) -> None:
        """Assign keys to their workspaces, or revoke them."""
        self._keys |= {one.key: one.workspace for one in keys}

    def assigned(self) -> list[ApiKey]:
        """Return the keys that were assigned or revoked."""
        return [ApiKey(key, workspace) for key, workspace in self._keys.items()]

    def of(self, key: str, selected: str | None) -> str:
        """Return the workspace of a call, which its header may select; raise ApiError (401) if the key is revoked."""
        workspace = self._keys.get(key, DEFAULT_WORKSPACE)
        if workspace is None:
            raise ApiError(401, "invalid x-api-key")
        return selected or workspace
