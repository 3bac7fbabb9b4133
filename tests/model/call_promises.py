"""What must be true of calls in real time: each is made once, told of if it is lost, and paid for apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import Any

from tests.model.promises import Books

from carpool_worker.pipeline.submission.call_outcomes import ANSWER_LOST

CALLS = "SELECT request_id, state, claude_id, cost IS NOT NULL OR batch_cost IS NOT NULL FROM real_time_calls"
ENDS = "SELECT id, state, error, deadline_policy FROM requests"
USED = """
SELECT client, model, processing, sum(requests), sum(input_tokens), sum(output_tokens)
FROM (SELECT {columns} FROM usage UNION ALL SELECT {columns} FROM usage_entries) AS ledger
GROUP BY client, model, processing""".format(
    columns="client, model, processing, requests, input_tokens, output_tokens"
)
OWNERS = "SELECT id, client FROM requests"


class CallBooks(Books):
    """The books of a history with calls."""

    def assert_no_call_is_made_twice(self) -> None:
        """By the ledger of the API, which has each call under the key that it was made with."""
        runs = Counter(entry["custom_id"] for entry in self._ours() if _is_call(entry))
        assert [key for key, count in runs.items() if count > 1] == []

    def assert_each_request_ended_as_it_must(self, accepted: Mapping[str, str], unwanted: Set[str]) -> None:
        """As in its batch; or, if its call was lost, by saying so."""
        lost = {one[0] for one in self.rows(CALLS) if one[1] == "lost"}
        for request_id, state, error, _ in self.rows(ENDS):
            if error == ANSWER_LOST:
                assert request_id in lost
                assert state in ("discarded", "canceled")
            else:
                ends = {accepted[request_id]} | ({"canceled"} if request_id in unwanted else set())
                assert state in ends | self._refused(request_id)

    def assert_nothing_is_paid_for_twice(self) -> None:
        """But for who pays again, each is billed once: by its batch or by its call, lost ones included."""
        self.assert_no_call_is_made_twice()
        again = {one[0] for one in self.rows(ENDS) if one[3] == "pay_again"}
        billed = Counter(entry["custom_id"] for entry in self._ours() if entry["outcome"] == "succeeded")
        assert {key for key, count in billed.items() if count > 1} <= again
        assert max(billed.values(), default=0) <= 2
        assert {one[0] for one in self.rows(ENDS) if one[1] == "completed"} <= set(billed)

    def assert_the_books_balance(self) -> None:
        """What the tables have of each way equals what the API has billed, but for answers that never came."""
        owner = dict(self.rows(OWNERS))
        calls = self.rows(CALLS)
        lost, known = {one[0] for one in calls if one[1] == "lost"}, {one[2] for one in calls}
        found: Counter[tuple[str, str, str, str]] = Counter()
        for entry in self._ours():
            never_came = entry["custom_id"] in lost and entry["batch_id"] not in known
            if entry["outcome"] != "succeeded" or (_is_call(entry) and never_came):
                continue
            way = "real_time" if _is_call(entry) else "batch"
            key = owner[entry["custom_id"]], entry["model"], way
            found[*key, "requests"] += 1
            found[*key, "input"] += entry["input_tokens"]
            found[*key, "output"] += entry["output_tokens"]
        names = ("requests", "input", "output")
        used = {
            (*one[:3], name): amount
            for one in self.rows(USED)
            for name, amount in zip(names, one[3:], strict=True)
        }
        assert {key: amount for key, amount in used.items() if amount} == dict(found)
        self.assert_each_answer_is_its_requests_own()

    def lasting(self, answer: bytes) -> dict[str, Any]:
        """Return what never changes: what the answer cost does, when a request is billed a second time."""
        return super().lasting(answer) | {"cost": None}

    def _ours(self) -> list[dict[str, Any]]:
        ids = {one[0] for one in self.rows(OWNERS)}
        return [entry for entry in self._simulator.ledger_entries() if entry["custom_id"] in ids]

    def _refused(self, request_id: str) -> set[str]:
        rejected = f"""
            SELECT 1 FROM requests JOIN batches ON batches.id = batch_id
            WHERE requests.id = id_of('{request_id}') AND batches.state = 'rejected'"""
        refused = (
            f"SELECT 1 FROM real_time_calls WHERE request_id = id_of('{request_id}') AND state = 'refused'"
        )
        return {"discarded"} if self.rows(rejected) or self.rows(refused) else set()


def _is_call(entry: Mapping[str, object]) -> bool:
    return not str(entry["batch_id"]).startswith("msgbatch_")
