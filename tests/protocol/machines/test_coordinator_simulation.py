"""Rounds in any order of messages and work, with losses, repetitions and deaths: one outcome each, and progress."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from protocol.messages.election import LeaderAnnouncement
from protocol.messages.rounds import RoundCommit, RoundVote
from tests.protocol.machines.simulated_values import ROUNDS
from tests.protocol.machines.simulation import World

PATIENCE = 4000
"""Steps that a world without further trouble needs at most."""


def run_fairly(world: World, alive: str = "") -> None:
    """Nothing dies any more, and all rounds are held."""
    names = alive or world.names
    held = world.run_fairly(lambda: all(world.disks[name].version.number == ROUNDS for name in names), PATIENCE)
    assert held, f"no progress: {world.disks}"


@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("names", ["a", "ab", "abc", "abcde"])
def test_rounds_are_held_where_nothing_goes_wrong(names: str, *, sharded: bool) -> None:
    world = World(tuple(names), sharded)
    for name in names:
        world.start(name)
    run_fairly(world)
    assert [sorted(record.weights) for _, record in sorted(world.outcomes.items())] == [list(names)] * 3


def left_open(names: str, *, sharded: bool) -> World:
    """Only its leader has adopted the first round, and it has died."""
    world = World(tuple(names), sharded)
    for name in names:
        world.start(name)
    world.request()
    world.tick(1.0)
    while not any(isinstance(message, RoundCommit) for _, _, message in world.messages):
        if world.messages:
            world.deliver(0)
        if world.works:
            world.work(0)
    world.messages = [each for each in world.messages if each[:2] == ("a", "a") and isinstance(each[2], RoundCommit)]
    world.deliver(0)
    while mine := [place for place, work in enumerate(world.works) if work[0].name == "a"]:
        world.work(mine[0])
    assert [disk.version.number for disk in world.disks.values()] == [1] + [0] * (len(names) - 1)
    world.kill("a")
    return world


@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("names", ["abc", "abcde"])
def test_a_commit_that_only_its_leader_has_seen_is_not_undone(names: str, *, sharded: bool) -> None:
    world = left_open(names, sharded=sharded)
    run_fairly(world, alive=names[1:])
    assert sorted(world.outcomes[1].weights) == list(names), "the survivors have recovered it"
    assert sorted(world.outcomes[2].weights) == list(names[1:])


def test_nor_where_a_vote_for_its_recovery_is_late() -> None:
    """Three are a majority of four, and of one of them the vote for what was left open does not come in time."""
    world = left_open("abcd", sharded=False)
    attempts = set[int]()

    def vote_is_late() -> bool:
        late = [each for each in world.messages if isinstance(each[2], RoundVote) and each[:2] == ("c", "b")]
        world.messages = [each for each in world.messages if each not in late]
        attempts.update(message.attempt for _, _, message in late)
        return len(attempts) == 2

    assert world.run_fairly(vote_is_late, PATIENCE), "it is tried again"
    run_fairly(world, alive="bcd")
    assert sorted(world.outcomes[1].weights) == list("abcd")
    assert sorted(world.outcomes[2].weights) == list("bcd")


def test_who_has_lost_the_last_message_of_the_last_round_catches_up() -> None:
    world = World(tuple("abc"), sharded=False)
    for name in world.names:
        world.start(name)

    def last_are_lost() -> bool:
        """Nobody hears of the last round's end but its leader; later c hears nothing of its next leader either."""
        for each in list(world.messages):
            if each[0] != each[1] == "c" and isinstance(each[2], RoundCommit | LeaderAnnouncement):
                world.messages.remove(each)
        return all(world.disks[name].version.number == ROUNDS for name in "ab")

    assert world.run_fairly(last_are_lost, PATIENCE)
    world.kill("a")  # it knows that c has not adopted it
    next_leader = world.sites["b"]
    assert world.run_fairly(lambda: last_are_lost() and next_leader.election.is_leader and not world.works, PATIENCE)
    for _ in range(100):
        last_are_lost()
        world.run_fairly(lambda: False, 1)
    assert world.disks["c"].version.number < ROUNDS
    run_fairly(world, alive="bc")


class Trouble(RuleBasedStateMachine):
    """Three or five members; hypothesis chooses what happens next."""

    @initialize(names=st.sampled_from(["abc", "abcde"]), sharded=st.booleans())
    def begin(self, names: str, sharded: bool) -> None:
        self.world = World(tuple(names), sharded)
        for name in names:
            self.world.start(name)
        self.world.request()
        self.world.tick(1.0)

    @rule(index=st.integers(0, 63), count=st.integers(1, 12), again=st.booleans())
    def deliver(self, index: int, count: int, again: bool) -> None:
        for _ in range(count):
            if self.world.messages:
                self.world.deliver(index % len(self.world.messages), again=again and count == 1)
            if self.world.works:
                self.world.work(index % len(self.world.works))

    @precondition(lambda self: self.world.messages)
    @rule(index=st.integers(0, 63))
    def lose(self, index: int) -> None:
        sender, receiver, _ = self.world.messages[index % len(self.world.messages)]
        if sender != receiver:  # what a member says to itself is not lost
            self.world.messages.pop(index % len(self.world.messages))

    @precondition(lambda self: self.world.works)
    @rule(index=st.integers(0, 15))
    def work(self, index: int) -> None:
        self.world.work(index % len(self.world.works))

    @precondition(lambda self: self.world.sites)
    @rule(index=st.integers(0, 4))
    def kill(self, index: int) -> None:
        self.world.kill(sorted(self.world.sites)[index % len(self.world.sites)])

    @precondition(lambda self: any(isinstance(each[2], RoundCommit) for each in self.world.messages))
    @rule(index=st.integers(0, 15))
    def hear_of_a_commit_and_die(self, index: int) -> None:
        world = self.world
        commits = [each for each in world.messages if isinstance(each[2], RoundCommit)]
        sender, receiver, commit = commits[index % len(commits)]
        world.messages = [each for each in world.messages if each[2] is not commit]
        world.messages.append((sender, receiver, commit))
        world.deliver(len(world.messages) - 1)
        while mine := [place for place, work in enumerate(world.works) if work[0].name == receiver]:
            world.work(mine[0])
        for name in {sender, receiver} & world.sites.keys():
            world.kill(name)

    @rule(index=st.integers(0, 4))
    def start(self, index: int) -> None:
        dead = sorted(set(self.world.names) - self.world.sites.keys())
        if dead:
            self.world.start(dead[index % len(dead)])

    @rule(seconds=st.sampled_from([0.3, 1.0, 10.0, 61.0]))
    def tick(self, seconds: float) -> None:
        self.world.tick(seconds)

    def teardown(self) -> None:
        world: Any = getattr(self, "world", None)
        if world is None:
            return
        for name in sorted(set(world.names) - world.sites.keys()):
            world.start(name)
        run_fairly(world)


TestTrouble = Trouble.TestCase
TestTrouble.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
