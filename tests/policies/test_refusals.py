"""Who is blamed for a refused body: the requests that the error names, one of its halves, or the lane."""

from __future__ import annotations

import pytest

from carpool_worker.exceptions import ClaudeError
from carpool_worker.policies.refusals import Blame, Family, Relative, gist, judge, named_requests

BETA = "400 invalid_request_error: Unexpected value(s) `output-300k` for the `anthropic-beta` header."
OTHER = "400 invalid_request_error: messages: Field required"
FIRST = "400 invalid_request_error: requests.0.params.speed: Extra inputs are not permitted"


def refused(message: str = BETA, status: int = 400) -> ClaudeError:
    return ClaudeError(message, status=status)


NEW = Relative(None, is_judged=False)
TAKEN = Relative(None)


@pytest.mark.parametrize(
    ("error", "requests", "family", "verdict"),
    [
        (refused(), 8, Family(), Blame.SPLIT),
        (refused(), 1, Family(), Blame.DISCARD),
        (refused(FIRST), 8, Family(), Blame.TAKE_OUT),
        (refused(FIRST), 1, Family(), Blame.DISCARD),
        (refused(), 4, Family([BETA], [NEW]), Blame.SPLIT),
        (refused(), 1, Family([BETA], [NEW]), Blame.WAIT),
        (refused(), 4, Family([BETA], [Relative(BETA)]), Blame.PAUSE),
        (refused(), 1, Family([BETA], [Relative(BETA)]), Blame.PAUSE),
        (refused(), 1, Family([BETA], [Relative(BETA, is_judged=False)]), Blame.PAUSE),
        (refused(), 4, Family([BETA], [Relative(OTHER)]), Blame.SPLIT),
        (refused(), 4, Family([OTHER], [Relative(BETA)]), Blame.SPLIT),
        (refused(), 4, Family([BETA], [Relative(BETA)], accepted=True), Blame.SPLIT),
        (refused(), 1, Family([BETA], [Relative(BETA)], accepted=True), Blame.DISCARD),
        (refused(), 1, Family([BETA], [TAKEN]), Blame.DISCARD),
        (refused(), 8, Family(paused=BETA), Blame.PAUSE),
        (refused(), 8, Family(paused="402 credit"), Blame.SPLIT),
        (refused(FIRST), 7, Family([FIRST]), Blame.TAKE_OUT),
        (refused(FIRST), 6, Family([FIRST, FIRST]), Blame.PAUSE),
        (refused(FIRST), 6, Family([FIRST, FIRST], accepted=True), Blame.TAKE_OUT),
        (refused("413 too large", 413), 4, Family(["413 too large"], [Relative("413 too large")]), Blame.SPLIT),
        (refused("413 too large", 413), 1, Family(["413 too large"], [NEW]), Blame.DISCARD),
    ],
)  # fmt: skip
def test_the_verdict(error: ClaudeError, requests: int, family: Family, verdict: Blame) -> None:
    assert judge(error, requests, family) is verdict


@pytest.mark.parametrize(
    ("message", "places"),
    [
        ("requests.0.custom_id: Field required", [0]),
        ("400 invalid_request_error: requests.7.params: no", [7]),
        ("requests.7", [7]),
        ("requests[3].params is wrong", [3]),
        ("requests.9.a: no; requests.2.b: no; requests.9.c: no", [2, 9]),
        ("requests.10.params: beyond the end", []),
        ("requests: List should have at least 1 item", []),
        ("too many requests.5xx", []),
        ("myrequests.1.a", []),
        ("requests.99999999999999999999.a", []),
        ("", []),
    ],
)
def test_the_requests_that_an_error_names(message: str, places: list[int]) -> None:
    assert named_requests(message, 10) == places


def test_what_differs_between_errors_that_say_the_same_does_not_count() -> None:
    assert gist("requests.0.params: no (request id: 2026a)") == gist(
        "requests.12.params: no (request id: 3f)"
    )
    assert gist(BETA) != gist(OTHER)
