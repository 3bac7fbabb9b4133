"""The FastAPI service's own tests: `carpool.testing` takes the producer's place, and needs no Redis and no worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from fastapi_service import app, connected_producer, verdicts

from carpool.testing import InMemoryProducer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def producer() -> InMemoryProducer:
    return InMemoryProducer(client="reviews", allow_http=True)


@pytest.fixture
def client(producer: InMemoryProducer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("CARPOOL_WEBHOOK_SECRET", SECRET)
    app.dependency_overrides[connected_producer] = lambda: producer
    yield TestClient(app)
    app.dependency_overrides.clear()
    verdicts.clear()


def test_a_review_gets_the_verdict_that_the_webhook_brings(
    client: TestClient, producer: InMemoryProducer
) -> None:
    request_id = client.post("/reviews", json={"number": 1, "text": "I love it."}).json()["request"]
    assert client.get(f"/reviews/{request_id}").json() == {"verdict": None}

    producer.answer(request_id, "positive")
    body, headers = producer.webhook(request_id, SECRET)

    assert client.post("/claude", content=body, headers=headers).status_code == 204
    assert client.get(f"/reviews/{request_id}").json() == {"verdict": "positive"}


def test_a_retry_of_the_caller_is_the_same_request(client: TestClient, producer: InMemoryProducer) -> None:
    for _ in range(3):
        client.post("/reviews", json={"number": 7, "text": "Fine."})

    [request] = producer.enqueued
    assert request.metadata == {"number": 7}
    assert "Fine." in request.params["messages"][0]["content"]


def test_a_failed_request_says_why(client: TestClient, producer: InMemoryProducer) -> None:
    request_id = client.post("/reviews", json={"number": 2, "text": "?"}).json()["request"]
    producer.fail(request_id, "invalid_request_error", "prompt is too long")
    body, headers = producer.webhook(request_id, SECRET)

    client.post("/claude", content=body, headers=headers)

    assert client.get(f"/reviews/{request_id}").json() == {"verdict": "failed: invalid_request_error"}


def test_what_is_not_signed_with_the_secret_is_refused(client: TestClient) -> None:
    assert client.post("/claude", content=b"{}", headers={"webhook-id": "1"}).status_code == 401
