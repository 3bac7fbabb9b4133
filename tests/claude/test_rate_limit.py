"""What an answer's headers say of the calls that are left."""

from __future__ import annotations

import pytest

from carpool_worker.claude.rate_limit import LONGEST_WAIT, seconds_to_wait

DATE = {"date": "Sun, 22 Nov 2026 12:00:00 GMT"}


def left(remaining: int, reset: str = "2026-11-22T12:00:30Z", limit: int = 1_000) -> dict[str, str]:
    names = {"limit": f"{limit}", "remaining": f"{remaining}", "reset": reset}
    return DATE | {f"anthropic-ratelimit-requests-{name}": value for name, value in names.items()}


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (200, left(999), 0),
        (200, left(51), 0),
        (200, left(50), 30),
        (200, left(0), 30),
        (200, left(1, limit=10), 0),
        (200, left(0, limit=10), 30),
        (200, left(0, reset="2026-11-22T11:59:00Z"), 1),
        (200, left(0, reset="2026-11-23T12:00:00Z"), LONGEST_WAIT),
        (200, left(0, reset="soon"), 1),
        (200, DATE, 0),
        (200, DATE | {"retry-after": "10"}, 0),
        (429, left(0) | {"retry-after": "45"}, 45),
        (429, left(0) | {"retry-after": "9"}, 30),
        (429, left(900) | {"retry-after": "3000"}, 0),
        (429, DATE | {"retry-after": "7"}, 7),
        (429, DATE | {"retry-after": "3000"}, LONGEST_WAIT),
        (429, DATE | {"retry-after": "Sun, 22 Nov 2026 12:00:07 GMT"}, 7),
        (429, DATE | {"retry-after": "Sun, 22 Nov 2026 13:00:00 GMT"}, LONGEST_WAIT),
        (429, DATE | {"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0),
        (429, left(900) | {"retry-after": "Sun, 22 Nov 2026 13:00:00 GMT"}, 0),
        (429, left(0) | {"retry-after": "Sun, 22 Nov 2026 12:00:45 GMT"}, 45),
        (429, DATE | {"retry-after": "nan"}, 0),
        (429, DATE, 0),
    ],
)
def test_no_call_is_made_until_the_reset_by_the_answers_own_clock(
    status: int, headers: dict[str, str], seconds: float
) -> None:
    assert seconds_to_wait(status, headers) == seconds


@pytest.mark.parametrize("remaining", ["plenty", "nan", "-inf", ""])
def test_headers_that_are_no_numbers_stop_nobody(remaining: str) -> None:
    assert seconds_to_wait(200, left(0) | {"anthropic-ratelimit-requests-remaining": remaining}) == 0


def test_an_answer_whose_date_is_nonsense_is_compared_with_our_own_clock() -> None:
    dated = {"date": "Sun, 22 Nov 999999999999 12:00:00 GMT"}

    assert seconds_to_wait(429, dated | {"retry-after": "7"}) == 7
    assert seconds_to_wait(429, dated | {"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}) == 0
