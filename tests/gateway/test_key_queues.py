"""A key with `most_queued` has so many requests without an answer, and no more."""

from __future__ import annotations

from tests.fixtures.agents import request
from tests.fixtures.gateway import RunGateway, WorkingCarpool, at_work, new_key
from tests.fixtures.gateway_calls import post
from tests.fixtures.waiting import until


def test_a_key_has_no_more_requests_without_an_answer_than_it_may(
    run_gateway: RunGateway, idle_carpool: WorkingCarpool
) -> None:
    secret = new_key(idle_carpool.engine, most_queued=2)
    other = new_key(idle_carpool.engine, name="other")

    with run_gateway() as gateway:

        def accepted(key: str, text: str) -> int:
            return post(gateway, key, request(text), prefer="respond-async").status

        # Given as many as it may have, in the inbox and then in a batch
        assert [accepted(secret, f"{number}") for number in range(3)] == [202, 202, 429]
        idle_carpool.aggregate()
        refused = post(gateway, secret, request("3"))

        # Then another one is refused, and another key's is not
        assert (refused.status, refused.error_type) == (429, "rate_limit_error")
        assert "(most_queued)" in refused.json["error"]["message"]
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert accepted(other, "4") == 202

        # When they are answered, Then there is room again
        with at_work(idle_carpool):
            until(lambda: accepted(secret, "5") == 202)
