"""What is done on the page of clients: keys of the gateway are made, get a new secret, and are revoked.

Whoever has a client's key reads that client's answers, so this takes the role `admin`, as at the gateway; and keys for
operators are left to the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from carpool_worker.console.page_calls import PageCall
from carpool_worker.console.refusals import BadFilter, NotAllowed, NotHere
from carpool_worker.console.users import Role
from carpool_worker.database import read
from carpool_worker.operations import keys as operation
from carpool_worker.operations.keys import NewSecret
from carpool_worker.policies.keys import OPERATORS
from carpool_worker.units import DAY, HOUR, SECOND
from carpool_worker.views.keys import key_view

BY_COMMAND = "Keys for operators are made and changed by `carpool keys` alone: nothing was done."
GRACES = {"at once": 0.0, "1 hour": HOUR / SECOND, "1 day": DAY / SECOND, "7 days": 7 * DAY / SECOND}
SCOPES = ("messages", "batches", "usage", "callbacks")


async def create(page: PageCall) -> web.StreamResponse:
    """Make a key, and show its secret, this once."""
    given = _terms(await page.request.post())
    engine, who = page.console.engine, page.user.name
    made = await page.act(
        "create key",
        f"key {given.get('name') or given.get('client')} of client {given.get('client')}",
        lambda: operation.create(engine, given, actor=who),
        given,
        role=Role.ADMIN,
    )
    return _shown(page, made, "")


async def rotate(page: PageCall) -> web.StreamResponse:
    """Give a key a new secret, and show it, this once."""
    form = await page.form()
    name, grace = form.get("key", ""), form.get("grace", "")
    if grace not in GRACES:
        raise BadFilter(f"grace: must be one of {', '.join(GRACES)}")
    engine, who = page.console.engine, page.user.name
    rotated = await page.act(
        "rotate key",
        f"key {name}",
        _of_a_client(page, name, lambda: operation.rotate(engine, name, GRACES[grace], actor=who)),
        {"grace": grace},
        role=Role.ADMIN,
    )
    return _shown(page, rotated, grace)


async def revoke(page: PageCall) -> web.StreamResponse:
    """Revoke a key for good."""
    name = (await page.form()).get("key", "")
    engine, who = page.console.engine, page.user.name
    was_valid = await page.act(
        "revoke key",
        f"key {name}",
        _of_a_client(page, name, lambda: operation.revoke(engine, name, actor=who)),
        role=Role.ADMIN,
    )
    said = "every gateway refuses it within 5 seconds" if was_valid else "it was revoked before"
    return page.see("/clients#keys", f"Revoked: {name}; {said}.")


def _of_a_client(page: PageCall, name: str, do: Callable[[], Any]) -> Callable[[], Any]:
    """Return what does that only to a key that is not for operators."""

    def act() -> Any:
        with read(page.console.engine) as connection:
            try:
                key = operation.find(connection, name)
            except operation.UnknownKey as error:
                raise NotHere(f"There is no key {name!r}.") from error
        if key.is_operators:
            raise NotAllowed(BY_COMMAND)
        return do()

    return act


def _terms(form: Any) -> Mapping[str, Any]:
    """Return the fields of KeyTerms that a form states; the operation checks them."""
    scopes = form.getall("scopes", [])
    if any(scope in OPERATORS for scope in scopes):
        raise NotAllowed(BY_COMMAND)
    models = [part.strip() for part in str(form.get("models", "")).split(",") if part.strip()]
    texts = {name: str(form.get(name, "")).strip() for name in ("client", "name", "day", "month")}
    counts = {
        name: _count(name, str(form.get(name, "")).strip()) for name in ("requests_a_minute", "most_queued")
    }
    given: dict[str, Any] = {**texts, **counts, "scopes": scopes, "models": models}
    return {name: value for name, value in given.items() if value}


def _count(name: str, written: str) -> int | None:
    if written and not (written.isascii() and written.isdigit()):
        raise BadFilter(f"{name}: must be a whole number, not {written!r}")
    return int(written[:12]) if written else None


def _shown(page: PageCall, made: NewSecret, grace: str) -> web.StreamResponse:
    return page.draw("new_secret.html", key=key_view(made.key), secret=made.secret, grace=grace)
