"""Plans wait in the order in which they came, and not without end."""

from __future__ import annotations

from protocol.machines.requests import MAX_OF_ONE, MAX_REQUESTS, RequestQueue
from protocol.messages.round_values import RoundPlanMessage


def test_a_bounded_number_of_plans_waits() -> None:
    queue = RequestQueue()
    plans = [
        RoundPlanMessage(key=f"k{n}", requester="g", model="m", task="t", rounds=1, federation="{}", options={})
        for n in range(MAX_REQUESTS + 1)
    ]
    assert all(queue.add(plan, f"g{number % 4}") for number, plan in enumerate(plans[:-1]))
    assert not queue.add(plans[-1], "g5")
    assert queue.add(plans[0], "g0"), "it waits already"
    queue.remove("k0")
    assert queue.add(plans[-1], "g5")
    assert list(queue.plans)[-1] == plans[-1].key


def test_nobody_takes_the_room_of_others() -> None:
    queue = RequestQueue()
    plan = RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=1, federation="{}", options={})
    added = [queue.add(plan.model_copy(update={"key": f"k{number}"}), "g") for number in range(MAX_REQUESTS)]
    assert sum(added) == MAX_OF_ONE
    assert queue.add(plan.model_copy(update={"key": "k0"}), "g"), "it waits already"
    assert queue.add(plan, "h")
