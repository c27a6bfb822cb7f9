"""A tenth of all messages lost, a twentieth doubled, all delayed by up to 200 ms, so that most overtake each other.

Under the policy `wait` every answer and every round is that of an undisturbed run, and nobody is lost or late; only the
traffic grows. The long stories are those of `make soak`; short ones run with every test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fednet.federated.local_network import local_ask
from nodes.transport.memory import Faults, MemoryNetwork

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))
FIVE = ("a", "b", "c", "d", "e")


def count_traffic(network: MemoryNetwork) -> list[int]:
    """From now on counts the deliveries of messages, heartbeats left out, and their bytes."""
    traffic, deliver = [0, 0], network._deliver

    def counting(sender: str, address: str, bus: Any, frames: list[bytes], *, heartbeat: bool) -> None:
        if not heartbeat:
            traffic[0] += 1
            traffic[1] += sum(map(len, frames))
        deliver(sender, address, bus, frames, heartbeat=heartbeat)

    network._deliver = counting  # type: ignore[method-assign]
    return traffic


def described(what: str, quiet: list[int], lossy: list[int]) -> str:
    """How much more was sent than without faults."""
    more = [100 * (after / before - 1) for before, after in zip(quiet, lossy, strict=True)]
    return f"{what}: {more[0]:.0f}% more messages, {more[1]:.0f}% more bytes"


@pytest.mark.parametrize("steps", [40, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_every_answer_is_that_of_an_undisturbed_run(tell: Tell, question: Any, steps: int) -> None:
    async def story(cluster: Any) -> list[int]:
        for name in FIVE:
            await cluster.client(name, factor=1.0 + FIVE.index(name) / 3)
        guest = await cluster.guest(expected=FIVE)
        await guest.directory.complete(60)
        local = local_ask({name: client.answerer for name, client in cluster.clients.items()})
        traffic = count_traffic(cluster.network)
        for number in range(steps):
            replies, right = await guest.requester.ask(question(number)), local(question(number))
            assert (replies.late, replies.lost) == ((), {})
            assert replies.by_node.keys() == right.by_node.keys()
            for name, outputs in replies.by_node.items():
                assert outputs["y"].equal(right.by_node[name]["y"])
        return traffic

    quiet, lossy = tell(story), tell(story, TROUBLE, seed=7)
    print(described(f"{steps} questions to 5 nodes", quiet, lossy))  # noqa: T201 - for tests/soak/RESULTS.md
    assert lossy[0] > quiet[0]


@pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("transport", ["mesh", "sharded"])
def test_every_round_is_that_of_an_undisturbed_run(
    tell: Tell, make_group: MakeGroup, transport: str, rounds: int
) -> None:
    async def story(cluster: Any) -> tuple[list[int], list[str]]:
        group = make_group(cluster, *FIVE)
        await group.start()
        await asyncio.sleep(5)
        traffic, digests = count_traffic(cluster.network), []
        for number in range(rounds):
            (record,) = await group.run_rounds(f"k{number}", transport=transport)
            assert set(record.weights) == set(FIVE)
            assert (record.late, record.lost, record.refused) == ((), {}, {})
            digests.append(record.digest)
        await group.settle()
        assert group.digests() == {digests[-1]}
        return traffic, digests

    (quiet, undisturbed), (lossy, disturbed) = tell(story), tell(story, TROUBLE, seed=7)
    assert disturbed == undisturbed
    print(described(f"{rounds} rounds of 5 nodes, {transport}", quiet, lossy))  # noqa: T201 - for tests/soak/RESULTS.md
