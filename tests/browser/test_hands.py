"""Signing on and off, keys without a mouse, live pages, and tenants, in a real browser."""

from __future__ import annotations

from playwright.sync_api import expect
from tests.browser.conftest import Desk, Visit

from carpool_worker.console.routes import TABS

SHOWN = [tab for tab in TABS if not tab.simulator]

FOCUSED = """() => {
  const one = document.activeElement, looks = getComputedStyle(one);
  return [one.textContent.trim() || one.name || one.tagName, looks.outlineStyle, parseFloat(looks.outlineWidth)];
}"""


def test_who_has_signed_off_sees_nothing_more(desk: Desk, visit: Visit) -> None:
    visitor = visit(desk.url)

    visitor.page.get_by_role("button", name="Sign off").click()
    visitor.page.wait_for_url("**/sign-on*")

    assert visitor.goto("/requests").get_by_role("heading", name="Sign on").is_visible()


def test_a_wrong_password_is_said_and_opens_nothing(desk: Desk, visit: Visit) -> None:
    visitor = visit(desk.url, signed_on=None)
    page = visitor.goto("/")

    page.get_by_label("Password, or a key").fill("not it")
    page.keyboard.press("Enter")

    expect(page.get_by_role("alert")).to_be_visible()
    assert page.get_by_role("navigation").count() == 0


def test_a_tenants_key_opens_its_own_pages_alone(desk: Desk, visit: Visit) -> None:
    visitor = visit(desk.url, signed_on=desk.day.secrets["billing"])

    shown = (
        visitor.page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link").all_inner_texts()
    )
    page = visitor.goto("/requests")

    assert shown == [tab.title for tab in SHOWN if tab.tenants]
    assert "billing" in page.inner_text("main")
    assert not any(other in page.inner_text("main") for other in ("research", "translate", "reviews"))


def test_everything_is_reached_in_order_by_keys_alone_and_the_focus_is_seen(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url).goto("/")

    # When somebody presses Tab again and again
    seen = []
    for _ in range(len(SHOWN) + 4):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUSED))

    # Then what is first leads to the page itself; then come the brand, all pages in their order, and who signed on
    names = [name for name, _, _ in seen]
    assert names[0] == "Skip to the page"
    assert names[1] == "Carpool"
    assert names[2 : 2 + len(SHOWN)] == [tab.title for tab in SHOWN]
    assert names[-2:] == ["Theme", "Sign off"]
    # And each is outlined
    assert [name for name, style, width in seen if style == "none" or width < 1] == []


def test_the_skip_link_leads_past_the_navigation(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url).goto("/requests")

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    assert page.evaluate("() => document.querySelector('main').contains(document.activeElement)")


def test_the_theme_is_chosen_by_hand_and_kept(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url, theme="light").goto("/")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)

    page.get_by_role("button", name="Theme").click()
    dark = page.evaluate(background)
    page.reload()

    assert light != dark
    assert page.evaluate(background) == dark
