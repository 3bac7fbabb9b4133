"""What a request is paid from: its client's budget, its key's, or both. None overtakes another in one purse."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from carpool_worker.policies.budgets import Budget, BudgetBalance, Over
from carpool_worker.policies.purses import BudgetDecision, Purse, decide

WITHIN, HELD, REFUSED = BudgetDecision.WITHIN, BudgetDecision.HELD, BudgetDecision.REFUSED

OVERS = st.sampled_from(Over)
ROOMS = st.integers(1, 20)


def purse(owner: str, picodollars: int, over: Over = Over.WAIT, *, others_wait: bool = False) -> Purse:
    budget = Budget(day=Decimal(picodollars) / 10**12, over=over)
    return Purse.of(owner, BudgetBalance(budget, {"day": 0, "month": 0}), others_wait=others_wait)


@given(ROOMS, OVERS, st.dictionaries(st.sampled_from("ab"), st.tuples(ROOMS, OVERS)), st.data())
def test_no_purse_is_overdrawn_and_none_overtakes_in_it(
    room: int, over: Over, keys: dict[str, tuple[int, Over]], data: st.DataObject
) -> None:
    # Given a client's purse, keys' purses, and requests with those keys or none
    client = purse("client", room, over)
    of_keys = {name: purse(name, *of) for name, of in keys.items()}
    asked = data.draw(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 8)), max_size=12))

    # When they are decided on in order
    taken = {"client": 0, **dict.fromkeys(keys, 0)}
    waiting: set[str] = set()
    for name, amount in asked:
        paid_from = [client, *([of_keys[name]] if name in of_keys else [])]
        verdict = decide(paid_from, amount)
        owners = {one.owner for one in paid_from}
        if verdict.decision is WITHIN:
            assert not waiting & owners
            for owner in owners:
                taken[owner] += amount
        if verdict.decision is HELD:
            waiting |= {one.owner for one in paid_from if one.is_waited_for}
            assert waiting & owners
        if verdict.decision is REFUSED:
            assert "is over its budget" in verdict.why

    # Then no more was reserved than there is
    assert taken["client"] <= room
    assert all(taken[name] <= limit for name, (limit, _) in keys.items())
    assert client.balance.reserved == taken["client"]


def test_what_waits_for_a_keys_budget_holds_no_other_key_up() -> None:
    client, full, other = purse("client", 10), purse("full", 2), purse("other", 10)

    assert [decide([client, one], 2).decision for one in (full, full, other, full)] == [
        WITHIN,
        HELD,
        WITHIN,
        HELD,
    ]


def test_a_purse_that_refuses_does_so_before_another_lets_wait() -> None:
    refusing, waiting = purse("key nightly", 1, Over.REFUSE), purse("client", 1, others_wait=True)

    verdict = decide([waiting, refusing], 1)
    assert verdict.decision is HELD
    assert (decide([refusing], 1).decision, decide([refusing], 1).decision) == (WITHIN, REFUSED)
    assert decide([waiting, refusing], 1).why.startswith("key nightly is over its budget")


def test_what_could_never_be_paid_is_refused_though_others_wait() -> None:
    assert decide([purse("client", 5, others_wait=True)], 6).decision is REFUSED
    assert decide([purse("client", 5, others_wait=True)], 1).decision is HELD
    assert decide([], 10**18).decision is WITHIN
