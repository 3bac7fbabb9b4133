"""What keeps other sites' pages from acting here, and from being shown what is here."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
import sqlalchemy as sa
from tests.fixtures.console import Browser, running_console, signed_on

from carpool_worker.settings import Settings


def test_every_answer_says_what_a_browser_may_do_with_it(operator: Browser) -> None:
    for path in ("/", "/nothing", "/sign-on", "/static/console.css"):
        headers = operator.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
    assert operator.get("/").headers["Cache-Control"] == "no-store"


def test_a_form_without_its_token_does_nothing(console: str) -> None:
    browser = signed_on(console)

    for token in ("", "x" * 43, signed_on(console).token()):  # none, a made-up one, another session's
        refused = browser.post("/sign-off", {"token": token}, token=False)
        assert refused.status == 403
        assert "not of this session" in refused.text
    assert "/sign-on" not in browser.get("/").url


def test_a_form_of_another_site_does_nothing(console: str) -> None:
    browser = signed_on(console)

    origins = ("https://evil.example", "null", "http://[::1")
    for sender in ({"Sec-Fetch-Site": "cross-site"}, *({"Origin": origin} for origin in origins)):
        refused = browser.post("/sign-off", {}, sender)
        assert refused.status == 403
        assert "another site" in refused.text
    assert "/sign-on" not in browser.get("/").url


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xff\r\n--x--',
        ),
        ("multipart/form-data", b"junk"),
        ("application/x-www-form-urlencoded; charset=nope", b"secret=x"),
    ],
)
def test_a_form_that_no_browser_sends_is_refused(console: str, kind: str, body: bytes) -> None:
    sent = urllib.request.Request(f"{console}/sign-on", body, {"Content-Type": kind})

    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(sent)

    with refused.value as answer:
        assert (answer.status, "can&#39;t be read" in answer.read().decode()) == (400, True)


def test_the_character_nul_is_refused_wherever_it_is(operator: Browser) -> None:
    refused = [operator.get(path) for path in ("/batches/%00", "/clients/a%00", "/spend?client=%00")]
    refused.append(operator.post("/lanes/resume", {"lane": "\0"}))

    assert {(one.status, "the character NUL" in one.text) for one in refused} == {(400, True)}


def test_a_cookie_in_another_encoding_is_nobodys(console: str) -> None:
    [name] = [one.name for one in signed_on(console).cookies]

    for cookie in (f"{name}=\xff", f"{name}-message=\xff"):
        assert Browser(console).get("/", {"Cookie": cookie}).url.startswith(f"{console}/sign-on")


def test_a_name_that_was_turned_to_this_machine_is_refused(operator: Browser) -> None:
    assert operator.get("/", {"Host": "evil.example"}).status == 421
    assert operator.get("/", {"Host": "localhost:8089"}).status == 200


def test_behind_a_proxy_it_has_any_name(console_settings: Settings, console_engine: sa.Engine) -> None:
    with running_console(console_settings, console_engine, behind_proxy=True) as url:
        assert Browser(url).get("/sign-on", {"Host": "carpool.example.com"}).status == 200


def test_it_is_ready_while_redis_and_the_database_answer(
    console_settings: Settings, console_engine: sa.Engine
) -> None:
    with running_console(console_settings, console_engine) as url:
        assert Browser(url).get("/readyz").status == 200
    away = console_settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with running_console(away, console_engine) as url:
        answer = Browser(url).get("/readyz")
    assert (answer.status, answer.text) == (503, '{"status": "unavailable", "missing": ["redis"]}')


def test_it_is_known_to_live_without_signing_on(console: str) -> None:
    assert Browser(console).get("/healthz").text == '{"status": "ok"}'
