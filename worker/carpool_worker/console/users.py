"""Who uses the console, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from carpool_worker.policies.keys import GatewayKey, Scope

Role = Scope
"""Roles are scopes of keys: LOOK, ACT, REVEAL and ADMIN."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who has signed on. With a `client`, a tenant, who sees nothing of others."""

    name: str  # as the audit log has it
    roles: frozenset[Role]
    client: str | None = None

    def can(self, role: Role) -> bool:
        """Return whether they may do this."""
        return role in self.roles


def of_key(key: GatewayKey) -> User | None:
    """Return who comes with this key; None if it opens no page.

    A key for operators needs `look`, a client's `usage`: it shows what the client has spent.
    """
    name = f"key {key.name}"
    if key.has(Scope.LOOK):
        return User(name, key.scopes)
    if key.has(Scope.USAGE) and not key.is_operators:
        return User(name, frozenset({Role.LOOK}), key.client)
    return None


def of_password(name: str, roles: Iterable[Role]) -> User:
    """Return who knows the password, by the name that they gave."""
    return User(f"{name} (password)" if name else "password", frozenset({Role.LOOK, *roles}))
