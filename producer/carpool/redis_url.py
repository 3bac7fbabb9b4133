"""The URL of a Redis, as producers and the worker read it: redis-py's, or the Sentinels that know where it is now."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import MasterNotFoundError as AsyncNotFound
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError as SyncNotFound
from redis.sentinel import Sentinel

from carpool.key_prefix import PrefixedCommands, prefixed, reply_callbacks

SENTINEL = "sentinel"
SCHEMES = ("redis", "rediss", "unix", SENTINEL)

NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
"""In the message of a connection to a server that could not prove who it is."""

TRUST_IT = "trust its authority by ?ssl_ca_certs=FILE in the URL, or use the name that its certificate has"
"""What to do then."""

SENTINEL_PORT = 26_379
SENTINEL_SECONDS = 2.0
"""How long one Sentinel may take to answer before the next is asked."""

SENTINEL_OPTIONS = ("username", "password")
"""Of the Sentinels themselves, as options sentinel_username and sentinel_password of the URL."""


class SentinelUrl(NamedTuple):
    """sentinel://[user:password@]host[:port][,host[:port]…]/SERVICE[/DATABASE][?options], read."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    sentinel_options: dict[str, Any]
    options: dict[str, Any]  # of the connection to the primary: username, password, db, and redis-py's

    @property
    def known_to_sentinels(self) -> dict[str, Any]:
        """The options of a connection to one of the Sentinels."""
        timeouts = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
        return timeouts | self.sentinel_options


class _Sentinels(Sentinel):
    """Sentinels to which nothing stays open, as they are asked only when a connection is made."""

    def discover_master(self, service_name: str) -> Any:
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except SyncNotFound:
            raise SyncNotFound(_not_found(self, service_name)) from None
        finally:
            for one in self.sentinels:
                one.connection_pool.disconnect(inuse_connections=False)


class _AsyncSentinels(AsyncSentinel):
    """The same for asyncio, where what stays open would outlive its loop."""

    async def discover_master(self, service_name: str) -> Any:
        try:
            return await super().discover_master(service_name)
        except AsyncNotFound:
            raise AsyncNotFound(_not_found(self, service_name)) from None
        finally:
            for one in self.sentinels:
                await one.connection_pool.disconnect(inuse_connections=False)


def is_sentinel(url: str) -> bool:
    """Return whether the URL names Sentinels."""
    return url.startswith(f"{SENTINEL}://")


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Read a URL that names Sentinels; raises ValueError, naming the rule."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not all(hosts.split(",")):
        raise ValueError("must be sentinel://host:port,host:port/SERVICE, or …/SERVICE/DATABASE")
    if not (database or "0").isdecimal():
        raise ValueError(f"has a database that is no number: {database}")
    # redis-py reads the rest, as it does for one server.
    address = f"{credentials}@localhost" if credentials else "localhost"
    options: dict[str, Any] = dict(parse_url(f"redis://{address}/{database}?{parts.query}"))  # type: ignore[no-untyped-call]
    del options["host"]
    given = {name: options.pop(f"sentinel_{name}", None) for name in SENTINEL_OPTIONS}
    known = {name: value for name, value in given.items() if value is not None}
    return SentinelUrl(tuple(map(_address, hosts.split(","))), unquote(service), known, options)


def check_url(url: str) -> str:
    """Return the URL of a Redis as it is; raises ValueError, naming the rule, if no client could be made of it.

    Nothing is connected. An unknown option is refused here, as redis-py would only refuse it at the first command.
    """
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(SCHEMES)}, then ://")
    try:
        with connect(url) as client:
            client.connection_pool.make_connection()
    except TypeError as error:
        option = str(error).rpartition(" ")[2]
        raise ValueError(f"has an option that redis-py does not know: {option}") from None
    except RedisError as error:
        raise ValueError(f"has an option that can't be used: {error}") from None
    return url


def without_secrets(url: str) -> str:
    """Return the URL without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def connect(url: str, key_prefix: str = "", **options: Any) -> redis.Redis:
    """Return a client of redis-py, which connects when it is first used.

    Every key gets the prefix (see key_prefix.py). Behind Sentinels it looks the primary up whenever it connects.
    `options` are redis-py's; those in the URL win.
    """
    if key_prefix:
        options["command_packer"] = PrefixedCommands(key_prefix)
    if is_sentinel(url):
        found = parse_sentinel_url(url)
        sentinels = _Sentinels(  # type: ignore[no-untyped-call]
            found.sentinels, sentinel_kwargs=found.known_to_sentinels | {"retry": Retry(NoBackoff(), 0)}
        )
        client: redis.Redis = sentinels.master_for(found.service, **options | found.options)  # type: ignore[no-untyped-call]
    else:
        client = redis.Redis.from_url(url, **options)
    _remove_from_replies(client, key_prefix)
    return client


def connect_async(url: str, key_prefix: str = "", **options: Any) -> redis.asyncio.Redis:
    """Return a client for asyncio; see `connect`."""
    if is_sentinel(url):
        found = parse_sentinel_url(url)
        sentinels = _AsyncSentinels(  # type: ignore[no-untyped-call]
            found.sentinels, sentinel_kwargs=found.known_to_sentinels | {"retry": AsyncRetry(NoBackoff(), 0)}
        )
        client: redis.asyncio.Redis = sentinels.master_for(found.service, **options | found.options)
    else:
        client = redis.asyncio.Redis.from_url(url, **options)
    if key_prefix:
        pool: Any = client.connection_pool
        pool.connection_class = _prefixing(pool.connection_class, key_prefix)
    _remove_from_replies(client, key_prefix)
    return client


def _remove_from_replies(client: Any, key_prefix: str) -> None:
    for command, around in reply_callbacks(key_prefix).items() if key_prefix else ():
        client.set_response_callback(command, around(client.response_callbacks.get(command)))


def _prefixing(connection: type[Any], key_prefix: str) -> type[Any]:
    """Return the class of connections for asyncio whose commands are packed with the prefix."""

    class Prefixing(connection):  # type: ignore[misc]
        def pack_command(self, *arguments: Any) -> Any:
            return super().pack_command(*prefixed(key_prefix, arguments))

    return Prefixing


def _not_found(sentinels: Any, service: str) -> str:
    """Return what to say in place of redis-py's own text, which has every option of each connection, passwords too."""
    addresses = (one.connection_pool.connection_kwargs for one in sentinels.sentinels)
    asked = ", ".join(f"{one['host']}:{one['port']}" for one in addresses)
    return f"no Sentinel names a primary of {service!r}; asked were {asked}"


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"has a Sentinel without a host: {text}")
    return parts.hostname, parts.port or SENTINEL_PORT
