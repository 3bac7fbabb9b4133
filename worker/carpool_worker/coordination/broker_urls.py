"""Where Celery's messages go, in Celery's terms: the URL of a Redis means the same there as everywhere else.

Celery reads such a URL in its own way. It knows no unix://, hands options of redis-py on to where they are unknown, and
does not verify a server's certificate unless it is told to.
"""

from __future__ import annotations

from ssl import CERT_REQUIRED
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from redis.connection import parse_url

from carpool.redis_url import SCHEMES, is_sentinel, parse_sentinel_url
from carpool_worker.coordination.keys import UNACKED, UNACKED_INDEX, UNACKED_MUTEX

VISIBILITY_TIMEOUT = 3_600
"""Seconds until an unacknowledged message is delivered again; longer than any task runs."""

KEY_PREFIX_OPTION = "global_keyprefix"
"""Celery's name of a prefix before all its keys."""

KEPT_OPTIONS = ("socket_connect_timeout", "socket_keepalive", "health_check_interval")
"""Options of redis-py that Celery's transport has too, and that don't shorten its blocking reads."""


OWN_KEYS: dict[str, Any] = {
    "unacked_key": UNACKED,
    "unacked_index_key": UNACKED_INDEX,
    "unacked_mutex_key": UNACKED_MUTEX,
    "visibility_timeout": VISIBILITY_TIMEOUT,
    "socket_keepalive": True,
    "health_check_interval": 25,
}
"""Options for a Redis. The keys are Carpool's own: other Celery apps may use the same database, and who shares these
keys with them delivers their messages again, by its own timeout, while their tasks are still running."""


class BrokerSettings(NamedTuple):
    """Celery's settings for one broker."""

    url: str
    ssl: dict[str, Any] | None
    options: dict[str, Any]  # of the transport


def is_redis(url: str) -> bool:
    """Return whether the broker is a Redis."""
    return urlsplit(url).scheme in SCHEMES


def broker_settings(url: str, key_prefix: str = "") -> BrokerSettings:
    """Return the settings by which Celery uses the same server, database, user and certificates as redis-py.

    In a Redis each key gets the prefix, and so does what is published; it means nothing to any other broker.
    """
    if not is_redis(url):
        parts = urlsplit(url)
        verified = {"cert_reqs": CERT_REQUIRED, "server_hostname": parts.hostname}
        # What is sent is what the broker has confirmed.
        return BrokerSettings(url, verified if parts.scheme == "amqps" else None, {"confirm_publish": True})
    sentinels = parse_sentinel_url(url) if is_sentinel(url) else None
    given: dict[str, Any] = sentinels.options if sentinels else dict(parse_url(url))  # type: ignore[no-untyped-call]
    options = OWN_KEYS | {name: given[name] for name in KEPT_OPTIONS if name in given}
    if key_prefix:
        options[KEY_PREFIX_OPTION] = key_prefix
    credentials = _credentials(given.get("username"), given.get("password"))
    database = given.get("db", 0)
    if sentinels:
        options |= {"master_name": sentinels.service, "sentinel_kwargs": sentinels.known_to_sentinels}
        hosts = (
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in sentinels.sentinels
        )
        urls = (f"sentinel://{credentials}{host}/{database}" for host in hosts)
        return BrokerSettings(";".join(urls), None, options)
    if path := given.get("path"):
        return BrokerSettings(f"redis+socket://{credentials}{path}?virtual_host={database}", None, options)
    host = str(given.get("host", "localhost"))
    host = f"[{host}]" if ":" in host else host
    address = f"{credentials}{host}:{given.get('port', 6379)}/{database}"
    if not url.startswith("rediss:"):
        return BrokerSettings(f"redis://{address}", None, options)
    verified = {"ssl_cert_reqs": "required"}
    certificates = {name: value for name, value in given.items() if name.startswith("ssl_")}
    return BrokerSettings(f"rediss://{address}", verified | certificates, options)


def _credentials(user: str | None, password: str | None) -> str:
    if not user and not password:
        return ""
    return f"{quote(user or '', safe='')}:{quote(password or '', safe='')}@"
