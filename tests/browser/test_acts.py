"""What people do at the console with a browser: each asks first, is done, is said, and is in the audit log."""

from __future__ import annotations

from playwright.sync_api import Page, expect
from tests.browser.conftest import Desk, Visit, act, assert_said
from tests.fixtures.busy_day import OPUS, SONNET


def assert_audited(page: Page, desk: Desk, *words: str) -> None:
    page.goto(f"{desk.url}/health")
    row = page.get_by_role("row").filter(has_text="anna (password)").first
    for word in (*words, "done"):
        expect(row).to_contain_text(word)


def test_a_dialog_is_opened_and_left_by_keys_and_nothing_is_done(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url).goto("/lanes")
    button = page.get_by_role("button", name="Pause", exact=True).first

    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")

    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_have_count(2)


def test_a_lane_is_paused_with_a_reason_and_resumed(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url).goto("/lanes")
    rows = page.get_by_role("row")

    rows.filter(has_text=SONNET).get_by_role("button", name="Pause").click()
    asked = page.locator("[popover]:popover-open")
    asked.get_by_label("Why").fill("until the prompts are mended")
    asked.get_by_role("button", name="Pause").click()

    expect(rows.filter(has_text=SONNET)).to_contain_text("until the prompts are mended")
    assert_audited(page, desk, "pause", SONNET)

    page.goto(f"{desk.url}/lanes")
    rows.filter(has_text=OPUS).get_by_role("button", name="Resume").click()
    page.locator("[popover]:popover-open").get_by_role("button", name="Resume").click()

    expect(rows.filter(has_text=OPUS)).to_contain_text("running")
    assert_audited(page, desk, "resume", OPUS)


def test_a_failed_request_is_retried_for_a_price(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url).goto(f"/requests/{desk.day.requests['discarded'][0]}")

    act(page, "Retry")

    expect(page.locator("main")).to_contain_text("retryable")
    assert_audited(page, desk, "retry")


def test_a_request_is_canceled(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url).goto(f"/requests/{desk.day.requests['retryable'][0]}")

    act(page, "Cancel", "Cancel the request")

    expect(page.locator("main")).to_contain_text("cancel")
    assert_audited(page, desk, "cancel")


def test_what_a_request_says_is_shown_to_who_reveals_it_alone(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url).goto(f"/requests/{desk.day.requests['completed'][0]}")
    assert "PRIVATE" not in page.content()

    act(page, "Reveal")

    expect(page.locator("main")).to_contain_text("PRIVATE PROMPT")
    expect(page.locator("main")).to_contain_text("PRIVATE ANSWER")
    assert_audited(page, desk, "reveal")


def test_dead_letters_of_a_receiver_are_replayed(desk: Desk, visit: Visit) -> None:
    page = visit(desk.url).goto("/deliveries")
    row = page.get_by_role("row").filter(has_text="hooks.legal.example.org").first

    row.get_by_role("button", name="Replay").click()
    page.locator("[popover]:popover-open").get_by_role("button", name="Replay").click()

    assert_audited(page, desk, "replay", "hooks.legal.example.org")


def test_a_key_is_made_opens_its_clients_pages_is_rotated_and_revoked(desk: Desk, visit: Visit) -> None:
    # Given a key that was made at the console
    page = visit(desk.url).goto("/clients")
    act(page, "New key", "Create", Client="press")
    first = page.locator("#secret").inner_text()

    # When its holder signs on
    tenant = visit(desk.url, signed_on=first)

    # Then they see their client, and nobody else's
    assert "billing" not in tenant.page.inner_text("body")

    # When it is rotated, its first secret ending at once
    page.goto(f"{desk.url}/clients")
    row = page.get_by_role("row").filter(has_text="press").first
    row.get_by_role("button", name="Rotate").click()
    asked = page.locator("[popover]:popover-open")
    asked.get_by_role("combobox").select_option("at once")
    asked.get_by_role("button", name="Rotate").click()
    page.locator("#secret").wait_for()
    assert page.locator("#secret").inner_text() != first

    # And then revoked, then no page of the holder's opens
    page.goto(f"{desk.url}/clients")
    row.get_by_role("button", name="Revoke").click()
    page.locator("[popover]:popover-open").get_by_role("button", name="Revoke").click()
    assert_said(page, "Revoked: press")
    tenant.page.wait_for_timeout(5_500)  # as long as a revoked key may still be known
    assert tenant.goto("/requests").get_by_role("heading", name="Sign on").is_visible()
