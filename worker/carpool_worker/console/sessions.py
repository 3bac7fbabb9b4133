"""Sessions: signed cookies that say who has signed on; nothing is stored, so that any number of consoles share them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any

from aiohttp import web
from itsdangerous import BadData, Signer, URLSafeTimedSerializer

from carpool_worker.console.users import User, of_key, of_password
from carpool_worker.gateway.key_cache import KeyCache
from carpool_worker.policies.keys import hash_of
from carpool_worker.settings import Settings

SESSION_SECONDS = 12 * 3_600
"""After which everybody signs on again."""

MESSAGE_SECONDS = 60
LONGEST_NAME = 40


class Session:
    """What a cookie says: who has signed on. `id` binds the tokens of forms to it."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.id: str = content["id"]


class Sessions:
    """Makes and reads sessions. A changed password and a revoked key end theirs, the latter within 5 seconds."""

    def __init__(self, settings: Settings, keys: KeyCache, secure: bool) -> None:
        secret = settings.console_secret.get_secret_value() or secrets.token_urlsafe(32)
        self.password = settings.console_password.get_secret_value()
        self._roles = settings.console_roles
        self._keys = keys
        self._secure = secure
        self._secret = secret
        self._cookies = URLSafeTimedSerializer(
            secret, "session", signer_kwargs={"digest_method": hashlib.sha256}
        )
        self._messages = URLSafeTimedSerializer(
            secret, "message", signer_kwargs={"digest_method": hashlib.sha256}
        )
        # Cookies know no ports: several consoles of one machine, each with its own secret, need different names.
        mark = hashlib.sha256(f"name {secret}".encode()).hexdigest()[:8]
        self._name = f"{'__Host-' if secure else ''}carpool-{mark}"

    async def begin(self, given: str, name: str = "") -> Session | None:
        """Return a new session for a password or a key; None if it is neither, or opens no page."""
        id_ = secrets.token_urlsafe(16)
        if self.password and _same(given, self.password):
            return Session({"id": id_, "name": _printable(name), "password": self._mark_of_password()})
        key = await self._keys.find(given)
        if key is None or of_key(key) is None:
            return None
        return Session({"id": id_, "key": hash_of(given)})

    async def user(self, session: Session) -> User | None:
        """Return who it is of; None if their password or key no longer opens anything."""
        content = session.content
        if "key" in content:
            key = await self._keys.find_hashed(content["key"])
            return of_key(key) if key else None
        if self.password and _same(content["password"], self._mark_of_password()):
            return of_password(content["name"], self._roles)
        return None

    def read(self, request: web.Request) -> Session | None:
        """Return the session that a request's cookie has; None without one, or if it is not ours or too old."""
        try:
            return Session(self._cookies.loads(request.cookies.get(self._name, ""), max_age=SESSION_SECONDS))
        except (BadData, UnicodeError):
            return None

    def write(self, response: web.StreamResponse, session: Session) -> None:
        """Give a browser the cookie of a session."""
        self._set(response, self._name, str(self._cookies.dumps(session.content)), SESSION_SECONDS)

    def end(self, response: web.StreamResponse) -> None:
        """Take the cookie away."""
        response.del_cookie(self._name, path="/", secure=self._secure, httponly=True, samesite="Lax")

    def token(self, session: Session) -> str:
        """Return what each form of this session must contain."""
        return (
            Signer(self._secret, salt="form", digest_method=hashlib.sha256).get_signature(session.id).decode()
        )

    def is_token(self, session: Session, token: str) -> bool:
        """Return whether a form is one of this session's."""
        return _same(token, self.token(session))

    def leave_message(self, response: web.StreamResponse, text: str) -> None:
        """Have the next page show a sentence."""
        self._set(response, f"{self._name}-message", str(self._messages.dumps(text)), MESSAGE_SECONDS)

    def message(self, request: web.Request) -> str | None:
        """Return the sentence that was left for this page."""
        try:
            text = self._messages.loads(request.cookies[f"{self._name}-message"], max_age=MESSAGE_SECONDS)
        except (KeyError, BadData, UnicodeError):
            return None
        return str(text)

    def drop_message(self, response: web.StreamResponse) -> None:
        """Forget the sentence, as it was shown."""
        response.del_cookie(
            f"{self._name}-message", path="/", secure=self._secure, httponly=True, samesite="Lax"
        )

    def _set(self, response: web.StreamResponse, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._secure, httponly=True, samesite="Lax"
        )

    def _mark_of_password(self) -> str:
        return hmac.new(self._secret.encode(), self.password.encode(), hashlib.sha256).hexdigest()[:32]


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _printable(name: str) -> str:
    return "".join(filter(str.isprintable, name)).strip()[:LONGEST_NAME]
