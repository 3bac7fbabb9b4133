"""Signing on: passwords, keys, sessions, and what they open."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from tests.fixtures.console import PASSWORD, Browser, running_console, signed_on
from tests.fixtures.waiting import until

from carpool_worker.console.attempts import MOST_WRONG
from carpool_worker.console.server import NobodyMaySignOn, serve
from carpool_worker.database import open_engine
from carpool_worker.gateway import key_cache
from carpool_worker.operations import keys
from carpool_worker.processes.listening import Listening
from carpool_worker.settings import Settings


def key(engine: sa.Engine, name: str, client: str, *scopes: str) -> str:
    """Return the secret of a new key."""
    terms = {"name": name, "client": client, "scopes": list(scopes)}
    secret = keys.create(engine, terms, actor="test").secret
    assert secret
    return secret


def test_without_a_session_every_page_leads_to_the_form_and_back(console: str) -> None:
    browser = Browser(console)

    page = browser.get("/?x=1")
    assert page.url.endswith("/sign-on?next=%2F%3Fx%3D1")
    assert "Sign on" in page.text

    entered = browser.post("/sign-on", {"secret": PASSWORD, "next": "/?x=1"}, token=False)
    assert entered.url == f"{console}/?x=1"


def test_a_wrong_password_opens_nothing(console: str) -> None:
    browser = Browser(console)

    page = browser.sign_on("open barley, said he")

    assert page.status == 403
    assert "neither the password nor a key" in page.text
    assert not list(browser.cookies)


def test_nobody_is_led_to_another_host(console: str) -> None:
    for wanted in ("//evil.example/", "https://evil.example/", "/\\evil.example"):
        browser = Browser(console, follow=False)
        entered = browser.post("/sign-on", {"secret": PASSWORD, "next": wanted}, token=False)
        assert entered.status == 303
        assert entered.headers["Location"] == "/"


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(console: str) -> None:
    entered = Browser(console, follow=False).sign_on()

    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Max-Age=43200" in cookie
    assert "Secure" not in cookie  # this console speaks plain http, to this machine alone


def test_behind_tls_the_cookie_is_secure(console_settings: Settings, console_engine: sa.Engine) -> None:
    with running_console(console_settings, console_engine, behind_proxy=True) as url:
        cookie = Browser(url, follow=False).sign_on().headers["Set-Cookie"]

    assert cookie.startswith("__Host-")
    assert "Secure" in cookie


def test_a_cookie_that_was_changed_is_none(operator: Browser) -> None:
    (cookie,) = operator.cookies
    forged = f"{cookie.name}={str(cookie.value)[:-2]}xx"

    assert "/sign-on" in Browser(operator.url).get("/", {"Cookie": forged}).url
    assert "/sign-on" not in Browser(operator.url).get("/", {"Cookie": f"{cookie.name}={cookie.value}"}).url


def test_consoles_side_by_side_share_sessions(console_settings: Settings, console_engine: sa.Engine) -> None:
    shared = console_settings.model_copy(update={"console_secret": console_settings.console_password})
    with (
        running_console(shared, console_engine) as one,
        running_console(shared, console_engine) as other,
    ):
        browser = signed_on(one)
        browser.url = other
        assert "/sign-on" not in browser.get("/").url


def test_another_password_ends_the_sessions_of_the_old_one(
    console_settings: Settings, console_engine: sa.Engine
) -> None:
    shared = console_settings.model_copy(update={"console_secret": console_settings.console_password})
    changed = shared.model_copy(
        update={"console_password": type(shared.console_password)("another one entirely")}
    )
    with (
        running_console(shared, console_engine) as one,
        running_console(changed, console_engine) as other,
    ):
        browser = signed_on(one)
        browser.url = other
        assert "/sign-on" in browser.get("/").url


def test_a_key_that_may_look_opens_the_console(console: str, console_engine: sa.Engine) -> None:
    browser = signed_on(console, key(console_engine, "looker", "operators", "look"))

    page = browser.get("/")
    assert page.status == 200
    assert "key looker" in page.text


def test_a_key_for_messages_alone_does_not(console: str, console_engine: sa.Engine) -> None:
    assert Browser(console).sign_on(key(console_engine, "sender", "billing", "messages")).status == 403


def test_a_revoked_key_ends_its_sessions_within_five_seconds(console: str, console_engine: sa.Engine) -> None:
    browser = signed_on(console, key(console_engine, "leaver", "operators", "look", "act"))

    keys.revoke(console_engine, "leaver", actor="test")

    assert key_cache.FRESH_SECONDS < 5
    until(lambda: "/sign-on" in browser.get("/").url)


def test_signing_off_takes_the_session_away(console: str) -> None:
    browser = signed_on(console)

    browser.post("/sign-off", {})

    assert "/sign-on" in browser.get("/").url


def test_the_link_of_whoever_started_it_signs_on(console: str) -> None:
    assert Browser(console).get("/enter?with=open+sesame%2C+said+he").url == f"{console}/"
    assert "/sign-on" in Browser(console).get("/enter?with=nothing").url


def test_behind_a_proxy_there_is_no_such_link(console_settings: Settings, console_engine: sa.Engine) -> None:
    with running_console(console_settings, console_engine, behind_proxy=True) as url:
        assert Browser(url).get("/enter?with=open+sesame%2C+said+he").status == 404


def test_whoever_tries_many_passwords_has_to_wait(
    console_settings: Settings, console_engine: sa.Engine
) -> None:
    with running_console(console_settings, console_engine, behind_proxy=True) as url:
        for _ in range(MOST_WRONG):
            assert Browser(url).sign_on("wrong wrong wrong").status == 403

        assert Browser(url).sign_on().status == 429  # even with the right one
        other = {"X-Forwarded-For": "10.0.0.1, 192.0.2.7"}
        entered = Browser(url, follow=False).post("/sign-on", {"secret": PASSWORD}, other, token=False)
        assert entered.status == 303


def test_no_address_is_logged_as_the_link_has_the_password(
    console: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    assert Browser(console).get("/enter?with=open+sesame%2C+said+he").status == 200

    assert "sesame" not in caplog.text
    assert not [one for one in caplog.records if one.name.startswith("aiohttp")]


def test_a_console_that_nobody_could_sign_on_to_does_not_start(
    console_settings: Settings, sqlite_url: str, migrated: Callable[[str], None]
) -> None:
    class Started(Exception):
        pass

    def started(_: str) -> None:
        raise Started

    migrated(sqlite_url)
    engine = open_engine(sqlite_url)
    without = console_settings.model_copy(update={"console_password": SecretStr("")})
    proxied = Listening("127.0.0.1", 0, behind_proxy=True)
    key(engine, "caller", "billing", "messages")

    # Neither a password nor a key that may look
    with pytest.raises(NobodyMaySignOn, match="make a key"):
        serve(without, engine, proxied, started)

    # Either is enough
    with pytest.raises(Started):
        serve(console_settings, engine, proxied, started)
    key(engine, "anna", "operators", "look")
    with pytest.raises(Started):
        serve(without, engine, proxied, started)
    engine.dispose()
