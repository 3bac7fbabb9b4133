"""The doctor on webhooks: secrets and stopped URLs."""

from __future__ import annotations

import pytest
from tests.fixtures.agents import Carpool, request
from tests.fixtures.doctor import SECRET, Doctor
from tests.fixtures.receiver import Receiver

from carpool import Producer, Webhook
from carpool_worker.database import now, open_engine, write
from carpool_worker.store.deliveries import endpoints


@pytest.mark.parametrize("ended", [False, True])
def test_a_webhook_that_waits_for_a_secret_is_found(
    doctor: Doctor, carpool: Carpool, producer: Producer, receiver: Receiver, redis_url: str, ended: bool
) -> None:
    # Given a request with a webhook, whose answer is there or not
    doctor.set(
        CARPOOL_DATABASE_URL=carpool.engine.url.render_as_string(hide_password=False),
        CARPOOL_REDIS_URL=redis_url,
    )
    producer.enqueue(request())
    carpool.aggregate()
    doctor.finds("webhooks", "ok", "no request asks for a webhook")
    producer.enqueue(request(), callback=Webhook(receiver.url("/hook")))
    carpool.until(lambda: carpool.ended(2)) if ended else carpool.aggregate()

    # Then it is found, until there is one
    assert "CARPOOL_WEBHOOK_SECRET" in doctor.finds("webhooks", "wrong", "answers wait for a secret").mend
    doctor.set(CARPOOL_WEBHOOK_SECRET=SECRET)
    doctor.finds("webhooks", "ok", "signed with 1 secret")
    doctor.set(CARPOOL_WEBHOOK_SECRET=f"{SECRET},{SECRET},{SECRET}")
    doctor.finds("webhooks", "warning", "3 secrets are set")


def test_a_url_that_was_stopped_is_found(doctor: Doctor, sqlite_url: str) -> None:
    engine = open_engine(sqlite_url)
    with write(engine) as connection:
        gone = endpoints.Health(frozenset(), frozenset(), frozenset({"https://example.com/hook"}))
        endpoints.record_health(connection, gone, 1, now())
    engine.dispose()

    doctor.finds(
        "webhooks", "wrong", "1 URL to which deliveries are stopped, such as https://example.com/hook"
    )


def test_a_url_that_takes_nothing_for_minutes_is_found(doctor: Doctor, sqlite_url: str) -> None:
    engine = open_engine(sqlite_url)
    with write(engine) as connection:
        failing = endpoints.Health(frozenset(), frozenset({"https://example.com/down"}), frozenset())
        endpoints.record_health(connection, failing, 10**9, now() - endpoints.FAILING)
    engine.dispose()

    doctor.finds("webhooks", "wrong", "deliveries fail at 1 receiver, such as https://example.com/down")
