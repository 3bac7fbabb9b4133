"""Three clients, two models, three kinds of callback, and requests that fail on purpose."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from tests.chaos.consumer import TASK_NAME, TASK_QUEUE

from carpool import CarpoolError, Producer, Request, Task, Webhook
from carpool.enqueue_options import DeadlinePolicy
from carpool_worker.simulator import Script

MODELS = ("claude-haiku-4-5", "claude-sonnet-4-5")
KINDS = ("plain", "flaky", "expired", "poisoned")
SHARES = (82, 7, 6, 5)
SCRIPTS = (
    Script(contains="[flaky]", outcome="errored", error_type="api_error", times=1),
    Script(contains="[expired]", outcome="expired", times=1),
    Script(contains="[poisoned]", outcome="errored", error_type="invalid_request_error"),
)
SECRET = "unrepeatable-words"
"""Part of every prompt; no log may hold it."""

MANNERS = "Answer in one short sentence, and in the language of the question. " * 100
"""A system prompt that half of the requests share: 6 kB, long enough for the cache."""

MAX_TOKENS = 4_096
"""Far longer than any answer: a budget reserves far more than it will have to pay."""

PRIORITIES = (0, 0, 0, -5, 5)
MAX_WAITS = (None, None, 1, 30)
"""Seconds."""

DEADLINES = (5.0, 60.0)
"""Seconds until urgent requests are due, at least and at most."""

POLICIES: tuple[DeadlinePolicy | None, ...] = (None, None, "pay_again", "batch")
"""What an urgent request may cost; None: it may be called while Anthropic does not have it."""

ROUND = 8
ROUND_SECONDS = 0.25
"""Requests of each client in one round, and the pause until the next."""

MOST_OPEN = 400
"""Requests of `script` without an answer; while there are more, nothing is enqueued, however slow the machine."""


def requests(
    luck: Random, count: int, models: tuple[str, ...] = MODELS, urgent: float = 0.0
) -> Iterator[Request]:
    """Make requests of all kinds, which their metadata names. A share of them is `urgent`: they have a deadline."""
    for _ in range(count):
        [kind] = luck.choices(KINDS, SHARES)
        text = f"[{kind}] {SECRET} {luck.random()} {'and so on ' * luck.randrange(20)}"
        params = {
            "model": luck.choice(models),
            "max_tokens": MAX_TOKENS,
            **luck.choice(({}, {"system": MANNERS})),
            "messages": [{"role": "user", "content": text}],
        }
        urgency = luck.choice(PRIORITIES), luck.choice(MAX_WAITS)
        deadline, policy = (None, None)
        if urgent and luck.random() < urgent:
            deadline, policy = luck.uniform(*DEADLINES), luck.choice(POLICIES)
        yield Request(
            params,
            metadata={"kind": kind},
            priority=urgency[0],
            max_wait=urgency[1],
            deadline=deadline,
            deadline_policy=policy,
        )


class Traffic:
    """Clients `web`, `books` and `script`: by webhook, by task, and waiting for replies.

    `accepted` has the ids that producers returned or named in an error, `unknown` those of which nobody knows.
    `answered` counts the answers of those that `script` waited for.
    """

    def __init__(self, redis_url: str, webhook_url: str, luck: Random) -> None:
        self.accepted: set[str] = set()
        self.unknown: set[str] = set()
        self.refusals: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.load = 1
        """How many times the usual number of requests flows."""
        self.urgent = 0.0
        """The share of requests that have a deadline."""
        self._waited_for: set[str] = set()
        self._luck = luck
        names = ("web", "books", "script")
        self._producers = [Producer(redis_url, client=name, allow_http=True, durable=True) for name in names]
        self._callbacks = (Webhook(webhook_url), Task(TASK_NAME, queue=TASK_QUEUE), None)
        self._flowing = threading.Event()
        self._over = threading.Event()
        self._waits: queue.Queue[list[str]] = queue.Queue()
        self._threads = [threading.Thread(target=self._flow), threading.Thread(target=self._listen)]
        for thread in self._threads:
            thread.start()

    def flow(self) -> None:
        """Enqueue steadily from now on."""
        self._flowing.set()

    def stop(self) -> None:
        """Stop enqueueing."""
        self._flowing.clear()

    def send(self, count: int) -> set[str]:
        """Enqueue so many requests of each client now; return the ids that were accepted."""
        return set().union(
            *(self._enqueue(n, requests(self._luck, count, urgent=self.urgent)) for n in range(3))
        )

    def wait_for_answers(self, timeout: float) -> None:
        """Wait, in seconds, for those of `script`'s answers that have not come yet; raises CarpoolError."""
        missing = self._waited_for - self.answered.keys()
        for result in self._producers[2].as_completed(missing, timeout):
            self.answered[result.id] += 1

    def expect(self, ids: Sequence[str]) -> None:
        """Wait for answers to these as well, which were accepted from `script`."""
        self.accepted |= set(ids)
        if ids:
            self._waits.put(list(ids))
            self._waited_for |= set(ids)

    def forget(self, ids: Iterable[str]) -> None:
        """Wait no longer for answers to these."""
        self._waited_for.difference_update(ids)

    def close(self) -> None:
        """Stop everything."""
        self._over.set()
        self._flowing.set()
        for thread in self._threads:
            thread.join()
        for producer in self._producers:
            producer.close()

    def _flow(self) -> None:
        while self._flowing.wait() and not self._over.is_set():
            if len(self._waited_for) - len(self.answered) < MOST_OPEN * self.load:
                self.send(ROUND * self.load)
            time.sleep(ROUND_SECONDS)

    def _enqueue(self, client: int, some: Iterable[Request]) -> set[str]:
        accepted: Sequence[str]
        try:
            accepted = self._producers[client].enqueue_many(some, callback=self._callbacks[client])
        except CarpoolError as error:
            self.refusals[f"enqueue: {type(error).__name__}"] += 1
            self.unknown |= set(error.unknown)
            accepted = error.accepted
        self.accepted |= set(accepted)
        if self._callbacks[client] is None:
            self.expect(accepted)
        return set(accepted)

    def _listen(self) -> None:
        """Wait for `script`'s answers, one set of ids after the other, as a service would."""
        while not self._over.is_set():
            try:
                ids = self._waits.get(timeout=0.2)
                for result in self._producers[2].as_completed(ids, timeout=5):
                    self.answered[result.id] += 1
            except queue.Empty:
                continue
            except CarpoolError as error:  # asked for again in the end
                self.refusals[f"wait: {type(error).__name__}"] += 1
