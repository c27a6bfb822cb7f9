"""What happens in a world of liars besides lies: any order, losses, repetitions, deaths, the worst one among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.messages.rounds import RoundCommit

if TYPE_CHECKING:
    from tests.byzantine.simulation import ByzantineWorld


def step(world: ByzantineWorld) -> None:
    """Something happens; mostly messages arrive and work is done, some in order and some not."""
    dice = world.dice
    for _ in range(dice.randint(1, 12)):
        if world.messages:
            index = dice.choice([0, 0, dice.randrange(len(world.messages))])
            world.deliver(index, again=dice.random() < 0.05)
        if world.works:
            world.work(dice.choice([0, dice.randrange(len(world.works))]))
    chance = dice.random()
    if chance < 0.05 or not world.messages:
        world.tick(dice.choice([0.3, 0.3, 1.0, 10.0, 61.0]))
    elif chance < 0.07:
        world.request()
    elif chance < 0.09 and world.messages:
        lose(world)
    elif chance < 0.11:
        kill_or_start(world)
    elif chance < 0.14:
        hear_of_a_commit_and_die(world)


def lose(world: ByzantineWorld) -> None:
    """A message is lost; what a member says to itself is not."""
    index = world.dice.randrange(len(world.messages))
    if world.messages[index][0] != world.messages[index][1]:
        world.messages.pop(index)


def kill_or_start(world: ByzantineWorld) -> None:
    """An honest member dies; or the one that is dead comes back."""
    dead = [name for name in world.honest if name not in world.sites]
    if dead:
        world.start(world.dice.choice(dead))
    else:
        world.kill(world.dice.choice(world.honest))


def hear_of_a_commit_and_die(world: ByzantineWorld) -> None:
    """The worst moment: one honest member adopts what is committed, nobody else hears of it, and its leader dies."""
    commits = [each for each in world.messages if isinstance(each[2], RoundCommit) and each[1] in world.honest]
    if not commits or any(name not in world.sites for name in world.honest):
        return
    sender, receiver, commit = world.dice.choice(commits)
    world.messages = [each for each in world.messages if each[2] is not commit]
    world.messages.append((sender, receiver, commit))
    world.deliver(len(world.messages) - 1)
    while mine := [place for place, work in enumerate(world.works) if work[0].name == receiver]:
        if world.works[mine[0]][1] is not world.sites[receiver].part:
            world.works.append(world.works.pop(mine[0]))
            break
        world.work(mine[0])
    for name in sorted({sender, receiver} & set(world.honest)):
        world.kill(name)
