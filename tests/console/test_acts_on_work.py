"""What is done at the pages of batches, requests, errors and deliveries; each act is in the audit log."""

from __future__ import annotations

import json
import os
import re

import pytest
from tests.fixtures.agents import request
from tests.fixtures.busy_console import CLIENT, Busy, busy
from tests.fixtures.console import signed_on
from tests.fixtures.deliveries import deliver
from tests.fixtures.doubts import NOT_MADE

from carpool import Producer, Webhook
from carpool_worker.database import read
from carpool_worker.operations import keys
from carpool_worker.simulator import RemoteSimulator
from carpool_worker.store.deliveries import dead_letters

__all__ = ["busy"]

DONE = "SELECT action, what, error FROM audit_log ORDER BY id"


def acts(busy: Busy) -> list[tuple[str | None, ...]]:
    return [tuple(one) for one in busy.carpool.rows(DONE)]


def given_request(busy: Busy, text: str, key: str, path: str | None = None) -> str:
    """A request that is in an open batch."""
    callback = Webhook(busy.receiver.url(path)) if path else None
    server = busy.carpool.server.connection_pool.connection_kwargs
    url = f"redis://{server['host']}:{server['port']}/{server['db']}"
    with Producer(url, client=CLIENT, allow_http=True) as producer:
        producer.enqueue(request(text), idempotency_key=key, callback=callback)
    busy.carpool.aggregate()
    return busy.request(key)


def end_all(busy: Busy) -> None:
    busy.carpool.until(lambda: not busy.carpool.rows("SELECT 1 FROM requests WHERE finished_at IS NULL"))


def test_a_prompt_and_an_answer_are_revealed_only_on_purpose(busy: Busy) -> None:
    id_ = busy.request("told")

    page = busy.send(f"/requests/{id_}/reveal")

    assert "a secret prompt" in page.words
    assert '"secret": "metadata"' in page.words
    assert acts(busy)[-1] == ("reveal", f"contents of request {id_}", None)


def test_results_are_downloaded_as_lines_with_the_bytes_of_anthropic(busy: Busy) -> None:
    batch = busy.batch("completed")

    answer = busy.operator.post(f"/batches/{batch}/results", {})

    lines = {line["custom_id"]: line["result"]["type"] for line in map(json.loads, answer.text.splitlines())}
    assert len(lines) == 3
    assert lines[busy.request("invoice-1")] == "succeeded"
    assert lines[busy.request("invoice-2")] == "errored"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{batch}.jsonl"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert acts(busy)[-1][:2] == ("download results", f"batch {batch}")


def test_a_request_that_has_not_been_sent_is_canceled_for_nothing(busy: Busy) -> None:
    id_ = given_request(busy, "unwanted", "unwanted")
    assert f'action="/requests/{id_}/cancel"' in busy.look(f"/requests/{id_}").text

    page = busy.send(f"/requests/{id_}/cancel")

    assert "1 request canceled at no cost." in page.words
    assert acts(busy)[-1] == ("cancel", f"request {id_}", None)
    assert f'action="/requests/{id_}/cancel"' not in page.text


def test_the_requests_of_a_batch_are_canceled_together(busy: Busy) -> None:
    id_ = given_request(busy, "both", "both-1")
    [[batch]] = busy.carpool.rows(f"SELECT batch_id FROM requests WHERE id = id_of('{id_}')")

    page = busy.send(f"/batches/{batch}/cancel")

    assert "1 request canceled at no cost." in page.words
    assert "Nothing was left to cancel." in busy.send(f"/batches/{batch}/cancel").words


def test_a_group_of_errors_is_retried_after_its_price_was_said(busy: Busy) -> None:
    end_all(busy)
    group = busy.look("/errors").link("Retry …")

    asked = busy.look(group)
    assert "1 request that failed with invalid_request_error of claude-haiku-4-5 of billing" in asked.words
    assert "for about $0.0001 ." in asked.words
    assert (
        "carpool retry --error invalid_request_error --model claude-haiku-4-5 --client billing" in asked.words
    )
    page = busy.send("/errors/retry", error="invalid_request_error", client=CLIENT, since="24h")

    assert "1 request will be tried again." in page.words
    assert acts(busy)[-1][0] == "retry"
    assert "retryable" in busy.look(f"/requests/{busy.request('invoice-2')}").words


def test_a_request_is_retried_for_a_price(busy: Busy) -> None:
    end_all(busy)
    id_ = busy.request("invoice-2")
    assert "It goes into a new batch, for about $0.0001." in busy.look(f"/requests/{id_[:20]}").words

    page = busy.send(f"/requests/{id_}/retry")

    assert "It will be tried again." in page.words
    assert "It can't be retried now." in busy.send(f"/requests/{id_}/retry").words


def test_a_receiver_is_stopped_and_started(busy: Busy) -> None:
    url = busy.receiver.url("/well")

    stopped = busy.send("/deliveries/stop", target=url, reason="it is being moved")
    assert f"Nothing is sent to {url} until it is started." in stopped.words
    assert f"{url} stopped" in stopped.words
    assert "it is being moved" in stopped.words
    started = busy.send("/deliveries/start", target=url)

    assert f"{url} well" in started.words
    assert [action for action, what, _ in acts(busy) if what == url] == ["stop receiver", "start receiver"]


def test_a_sample_is_sent_to_a_receiver_and_its_answer_is_shown(busy: Busy) -> None:
    url = busy.receiver.url("/well")
    before = len(busy.receiver.posts["/well"])

    page = busy.send("/deliveries/sample", target=url)

    assert f"{url} answered 200 in" in page.words
    headers, body = busy.receiver.posts["/well"][before]
    assert {"webhook-id", "webhook-signature"} <= {name.lower() for name in headers}
    assert json.loads(body)["data"]["metadata"] == {"sample": True}


def test_nothing_is_sent_to_a_receiver_that_there_is_not(busy: Busy) -> None:
    page = busy.send("/deliveries/sample", target=busy.receiver.url("/another"))

    assert page.status == 400
    assert "target: no such receiver" in page.words
    assert not busy.receiver.posts["/another"]


def test_dead_letters_are_replayed(busy: Busy) -> None:
    id_ = given_request(busy, "right", "dead-1", "/ill")
    end_all(busy)
    deliver(busy.carpool.engine, webhook_schedule=[])
    assert f'action="/requests/{id_}/replay"' in busy.look(f"/requests/{id_}").text

    page = busy.send("/deliveries/replay", target=busy.receiver.url("/ill"), since="24h")

    assert re.search(r"\d deliver(y is|ies are) due again\.", page.words)
    assert "It is not a dead letter" in busy.send(f"/requests/{id_}/replay").words


def test_who_may_only_look_can_do_none_of_it(busy: Busy) -> None:
    made = keys.create(
        busy.carpool.engine, {"name": "looker", "client": "ops", "scopes": ["look"]}, actor="tests"
    )
    looker = signed_on(busy.operator.url, made.secret or "")
    id_, batch, before = busy.request("invoice-1"), busy.batch("completed"), acts(busy)
    paths = [f"/requests/{id_}/{act}" for act in ("cancel", "retry", "replay", "reveal")]
    paths += [f"/batches/{batch}/{act}" for act in ("cancel", "resolve", "results")]
    paths += ["/errors/retry", *(f"/deliveries/{act}" for act in ("stop", "start", "replay", "sample"))]

    assert {looker.post(path, {}).status for path in paths} == {403}
    assert looker.get("/errors/retry?error=x").status == 403
    assert acts(busy) == before
    shown = [
        looker.get(path).text for path in (f"/requests/{id_}", f"/batches/{batch}", "/deliveries", "/errors")
    ]
    assert 'method="post" action="/requests' not in "".join(shown)


@pytest.mark.parametrize("client", [CLIENT, "another"])
def test_a_tenant_sees_its_own_requests_and_deliveries_only(busy: Busy, client: str) -> None:
    made = keys.create(
        busy.carpool.engine, {"name": client, "client": client, "scopes": ["usage"]}, actor="tests"
    )
    tenant, id_, is_own = (
        signed_on(busy.operator.url, made.secret or ""),
        busy.request("invoice-1"),
        client == CLIENT,
    )

    requests = tenant.get("/requests?client=billing").text
    delivered = tenant.get("/deliveries").text

    assert (id_ in requests) is is_own
    assert (id_ in delivered) is is_own
    assert tenant.get(f"/requests/{id_}").status == (200 if is_own else 404)
    assert "its batch:" not in tenant.get(f"/requests/{id_}").text
    assert (id_ in tenant.get("/requests?q=invoice-1").url) is is_own
    assert {tenant.get(path).status for path in ("/errors", f"/batches/{busy.batch('completed')}")} == {404}


def test_a_tenant_learns_no_id_of_others_whatever_it_names(busy: Busy) -> None:
    made = keys.create(
        busy.carpool.engine, {"name": "stranger", "client": "stranger", "scopes": ["usage"]}, actor="tests"
    )
    tenant, theirs = signed_on(busy.operator.url, made.secret or ""), busy.request("invoice-1")
    named = [theirs, "0", theirs[:4]]
    found = [busy.look("/requests").text, busy.look("/batches").text]
    ids = set(re.findall(r"[0-9a-f]{32}", " ".join(found)))

    for path in ("/requests/", "/requests?before=", "/requests?after=", "/deliveries?before="):
        answers = [tenant.get(path + one) for one in named]
        assert {one.status for one in answers} == {404}
        assert set(re.findall(r"[0-9a-f]{32}", " ".join(one.text for one in answers))) & ids == {theirs}
    by_batch = [tenant.get(f"/requests?batch={one}") for one in ("0", busy.batch("completed"))]
    assert {one.status for one in by_batch} == {400}
    assert "there is no filter" in by_batch[0].text


def test_a_tenant_walks_its_own_lists_by_whole_ids(busy: Busy) -> None:
    made = keys.create(
        busy.carpool.engine, {"name": "own", "client": CLIENT, "scopes": ["usage"]}, actor="tests"
    )
    tenant, own = signed_on(busy.operator.url, made.secret or ""), busy.request("invoice-1")

    assert tenant.get(f"/requests/{own}").status == 200
    assert tenant.get(f"/requests?before={own}").status == 200
    assert tenant.get(f"/deliveries?after={own}").status == 200
    assert tenant.get(f"/requests/{own[:20]}").status == 404


def test_a_receiver_has_the_dead_letters_of_whoever_asks(busy: Busy) -> None:
    given_request(busy, "right", "dead-2", "/ill")
    end_all(busy)
    deliver(busy.carpool.engine, webhook_schedule=[])

    with read(busy.carpool.engine) as connection:
        of = {
            client: dead_letters.counted_by_target(connection, client)
            for client in (None, CLIENT, "stranger")
        }
    url = busy.receiver.url("/ill")
    assert of[None][url] == of[CLIENT][url] > 0
    assert of["stranger"] == {}


def test_a_batch_in_doubt_is_posted_again_by_somebodys_word(busy: Busy) -> None:
    # Given a batch whose post had no answer
    end_all(busy)
    RemoteSimulator(os.environ["ANTHROPIC_BASE_URL"]).arm(NOT_MADE)
    given_request(busy, "doubtful", "doubt-1")
    busy.carpool.submit()
    batch = busy.batch("submitting")

    # When nobody says what became of it, and then somebody does
    unsaid = busy.send(f"/batches/{batch}/resolve", how="made")
    said = busy.send(f"/batches/{batch}/resolve", how="not_made")
    late = busy.send(f"/batches/{batch}/resolve", how="not_made")

    # Then
    assert (unsaid.status, late.status) == (400, 400)
    assert "say either that it was made" in unsaid.words
    assert "It is posted again." in said.words
    assert "not in doubt" in late.words
    assert acts(busy)[-2] == ("resolve", f"batch {batch}", None)
    end_all(busy)
