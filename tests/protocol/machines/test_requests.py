"""Plans wait in the order in which they came, and not without end."""

from __future__ import annotations

from protocol.machines.requests import MAX_REQUESTS, RequestQueue
from protocol.messages.round_values import RoundPlanMessage


def test_a_bounded_number_of_plans_waits() -> None:
    queue = RequestQueue()
    plans = [
        RoundPlanMessage(key=f"k{n}", requester="g", model="m", task="t", rounds=1, federation="{}", options={})
        for n in range(MAX_REQUESTS + 1)
    ]
    assert all(queue.add(plan, "g") for plan in plans[:-1])
    assert not queue.add(plans[-1], "g")
    assert queue.add(plans[0], "g"), "it waits already"
    queue.remove("k0")
    assert queue.add(plans[-1], "g")
    assert list(queue.plans)[-1] == plans[-1].key
