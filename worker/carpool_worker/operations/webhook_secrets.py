"""Gives clients secrets of their own, with which their webhooks are signed, so that no tenant can forge another's."""

from __future__ import annotations

import secrets
from base64 import b64encode

import sqlalchemy as sa

from carpool.contract import CLIENT_NAME
from carpool_worker.database import now, write
from carpool_worker.exceptions import WorkerError
from carpool_worker.operations.keys import DEFAULT_GRACE, check_grace
from carpool_worker.store import webhook_secrets
from carpool_worker.telemetry.logs import get_logger
from carpool_worker.units import after

SECRET_BYTES = 32
"""At random; Standard Webhooks 1.0.0 allows 24 to 64."""

log = get_logger(__name__)


class ClientNameInvalid(WorkerError):
    """A client's name has 1 to 64 letters, digits, dots, dashes or underscores."""


def rotate(engine: sa.Engine, client: str, grace: float = DEFAULT_GRACE, *, actor: str) -> str:
    """Return a new secret of a client's webhooks; for `grace` seconds what signed them before signs them as well.

    Raises:
        ClientNameInvalid, GraceInvalid.
    """
    check_grace(grace)
    if not CLIENT_NAME.fullmatch(client):
        raise ClientNameInvalid(
            f"client {client!r}: must be 1 to 64 letters, digits, dots, dashes or underscores"
        )
    secret, at = f"whsec_{b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}", now()
    with write(engine) as connection:
        webhook_secrets.rotate(connection, client, secret, after(at, grace), at)
    log.info("webhook secret rotated by operator", actor=actor, client=client, grace=grace)
    return secret


def drop(engine: sa.Engine, client: str, grace: float = DEFAULT_GRACE, *, actor: str) -> bool:
    """Sign a client's webhooks with the general secret again, and for `grace` seconds with its own as well.

    Returns whether it had one of its own. Raises GraceInvalid.
    """
    check_grace(grace)
    with write(engine) as connection:
        had_one = webhook_secrets.drop(connection, client, after(now(), grace))
    if had_one:
        log.info("webhook secret dropped by operator", actor=actor, client=client, grace=grace)
    return had_one
