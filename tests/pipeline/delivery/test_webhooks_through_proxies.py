"""Webhooks through real proxies, and never through those of the environment."""

from __future__ import annotations

from typing import Any

import pytest
from standardwebhooks import Webhook
from tests.fixtures.deliveries import WEBHOOK_SECRET
from tests.fixtures.webhooks import Names, outgoing, send
from tests.pipeline.delivery.hostile import hostile
from tests.pipeline.delivery.proxies import ConnectProxy, SocksProxy

from carpool_worker.exceptions import SettingsInvalid
from carpool_worker.policies.deliveries import Event
from carpool_worker.settings import read_settings

CLIENT = "http://client.example.com/in%2F1"


def test_a_webhook_goes_through_a_tunnel_of_the_proxy(receiver: Any) -> None:
    # Given
    proxy = ConnectProxy(receiver.port, "carpool:word")
    with hostile(proxy) as server:
        url = f"http://carpool:word@127.0.0.1:{server.port}"

        # When
        first, second = send(*[outgoing(CLIENT)] * 2, names=Names("127.0.0.1"), webhook_proxy=url)

    # Then: one tunnel to the name, which the proxy resolves, and the receiver gets what it always gets
    assert (first.status, second.status) == (200, 200)
    assert proxy.asked == [b"CONNECT client.example.com:80 HTTP/1.1"]
    [(headers, body), _] = receiver.posts["/in/1"]
    Webhook(WEBHOOK_SECRET).verify(body, headers)
    assert headers["Host"] == "client.example.com"
    assert not [name for name in headers if name.lower().startswith("proxy")]


def test_a_socks_proxy_resolves_the_name(receiver: Any) -> None:
    proxy = SocksProxy(receiver.port)
    with hostile(proxy) as server:
        url = f"socks5h://127.0.0.1:{server.port}"
        [sent] = send(outgoing(CLIENT), names=Names("127.0.0.1"), webhook_proxy=url)
    assert (sent.status, proxy.asked) == (200, [b"client.example.com"])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_private_address_is_refused_before_the_proxy_is_asked(receiver: Any, scheme: str) -> None:
    proxy = ConnectProxy(receiver.port)
    with hostile(proxy) as server:
        url = f"http://127.0.0.1:{server.port}"
        target = f"{scheme}://client.example.com/in"
        [sent] = send(outgoing(target), names=Names("10.0.0.1"), webhook_proxy=url)
    assert (sent.event, proxy.asked, server.connections) == (Event.REFUSED, [], 0)


def test_a_proxy_that_refuses_is_a_failure_that_shows_no_password(receiver: Any) -> None:
    with hostile(ConnectProxy(receiver.port, refuses=True)) as server:
        url = f"http://carpool:secret-word@127.0.0.1:{server.port}"
        [sent] = send(outgoing(CLIENT), names=Names("127.0.0.1"), webhook_proxy=url)
    assert sent.event is Event.FAILED
    assert "403" in str(sent.detail)
    assert "secret-word" not in str(sent.detail)


def test_the_environments_proxies_are_not_used(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    [sent] = send(outgoing(receiver.url("/in")))
    assert sent.status == 200


def test_the_environment_excepts_nothing_from_the_proxy(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    proxy = ConnectProxy(receiver.port)
    with hostile(proxy) as server:
        send(outgoing(CLIENT), names=Names("127.0.0.1"), webhook_proxy=f"http://127.0.0.1:{server.port}")
    assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    "url", ["proxy:3128", "ftp://proxy", "http://", "socks5://proxy", "http://a:secret@"]
)
def test_what_is_no_proxys_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="CARPOOL_WEBHOOK_PROXY") as raised:
        read_settings(webhook_proxy=url)
    assert "secret" not in str(raised.value)
