"""Rounds of the pure machines among liars: a seed makes the members, the liars and everything that happens.

    report = simulate(seed)        # raises `Violation`, which names the seed and the latest messages

Honest members are those of `tests.protocol.machines`, with signatures that nobody can forge (or without any). Messages
and work are taken in a random order, some twice, as by a relay that delays, repeats and reorders; honest members, one
at a time, die and come back. At every adoption and at the end it is checked that

* nobody honest ends: no machine, and nothing around it, raises an error whatever is said;
* nobody honest adopts what no majority has voted for: a majority but for the liars has really cast these votes;
* a round counts of an honest member what it has offered, and with fewer contributions than its floor only without it;
* of a round there is one outcome, where liars are too few to stand in two majorities, and do not lead;
* once the liars are gone, rounds go on.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha512
from typing import Any, ClassVar, Self, cast

from protocol.certificates import record_digest
from protocol.machines import coordinator_values as leading
from protocol.machines import participant_values as taking_part
from protocol.machines.machine import Instruction, MachineEvent
from protocol.machines.signatory import Signer
from protocol.messages import KINDS, Message
from protocol.messages.round_values import BlobRef, ContributionRef, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundOpen, RoundVote
from tests.byzantine.liar import Face, Habits, Liar, votes_of
from tests.byzantine.mutation import Mutator
from tests.byzantine.scenario import Scenario, Violation
from tests.byzantine.trouble import step
from tests.protocol.machines.simulated_site import Site
from tests.protocol.machines.simulated_values import PLAN, ROUNDS, Disk, Keyless, Terms
from tests.protocol.machines.simulation import World

KINDS_OF_ROUNDS = tuple(
    kind for kind, message in KINDS.items() if message.__module__.endswith((".rounds", ".election", ".secure_sum"))
)
PATIENCE = 6000
"""Steps in which honest members close a round once the liars are gone."""


@dataclass(frozen=True)
class UnforgeableSigner:
    """Signs as one member; nobody else knows its secret."""

    name: str
    run: str = "run"

    def attest(self, statement: bytes) -> bytes:
        return _signature(self.name, statement)

    def attested(self, name: str, statement: bytes, signature: bytes) -> bool:
        return signature == _signature(name, statement)


def _signature(name: str, statement: bytes) -> bytes:
    return sha512(f"the secret of {name}".encode() + statement).digest()


@dataclass
class ByzantineWorld(World):
    """Honest members and liars.

    Attributes:
        scenario: what it was made from.
        dice: decides everything.
        mutator: makes the lies.
        votes: that honest members have cast: name and digest of the record.
        offers: what honest members have offered, by name and number of the round.
        adoptions: what honest members have adopted, in order.
        said_by_liars: how many messages of each kind.
        heard: how many messages of each kind honest members have taken in from liars.
    """

    scenario: Scenario = field(default_factory=lambda: Scenario.of(0))
    run: str = "run"
    votes: set[tuple[str, str]] = field(default_factory=set)
    offers: dict[tuple[str, int], ContributionRef] = field(default_factory=dict)
    adoptions: list[tuple[str, RoundCommit]] = field(default_factory=list)
    said_by_liars: Counter[str] = field(default_factory=Counter)
    plan: RoundPlanMessage = PLAN
    face: ClassVar[type[Face]] = Face
    command: ClassVar[str] = "python -m tests.soak.byzantine"

    @property
    def member(self) -> type[HonestSite]:
        """What honest members are."""
        return HonestSite

    def __post_init__(self) -> None:
        self.dice = random.Random(f"world {self.scenario.seed}")  # noqa: S311 - replayable
        self.liars = self.scenario.liars
        self.mutator = Mutator(self.dice, self.names, lambda record: votes_of(self, record), spared={"leaves"})
        self.honest = tuple(name for name in self.names if name not in self.liars)

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        """The world of a scenario."""
        return cls(scenario.names, scenario.sharded, scenario=scenario)

    def close(self) -> None:
        """The run is over."""

    @property
    def must_go_on(self) -> bool:
        """Whether there are rounds without the liars: the honest are a majority, and were not split."""
        return len(self.honest) >= self.scenario.majority and self.scenario.is_agreed

    def require_private(self) -> None:
        """Nothing is private where contributions are plain."""

    def start(self, name: str) -> None:
        if name in self.liars:
            habits = Habits.drawn(self.dice, KINDS_OF_ROUNDS, leads=self.scenario.role == "lead")
            self.sites[name] = cast("Site", Liar(self, name, habits, self.face))
        else:
            self.sites[name] = self.member(self, name, self.disks.setdefault(name, Disk()))
        for other in list(self.sites.values()):
            if other.name != name and name in self.names and other.name in self.names:
                other.arrived(name)
                self.sites[name].arrived(other.name)

    def kill(self, name: str) -> None:
        self.works = [work for work in self.works if work[0].name != name]
        super().kill(name)

    def send(self, sender: str, receiver: str, message: Message) -> None:
        """A message is under way, if somebody is there."""
        if receiver in self.sites:
            self.messages.append((sender, receiver, message))

    def owner(self, term: int) -> str:
        """Whose a term is."""
        return sorted(self.names)[(term - 1) % len(self.names)]

    def request(self) -> None:
        for site in list(self.sites.values()):
            if isinstance(site, Liar):
                site.request(leading.Requested(), self.plan)
            elif site.disk.done.get(self.plan.key, 0) < ROUNDS and site.requests.add(self.plan, self.plan.requester):
                site.lead(leading.Requested())

    def signer(self, name: str) -> Signer:
        return UnforgeableSigner(name) if self.scenario.keyed else Keyless()

    def floor(self, name: str) -> int:
        return self.scenario.quorum

    def terms(self, name: str) -> Terms:
        if name in self.liars:
            return Terms(self.sharded, 1, self.dice.choice([None, 1, 2]))
        return Terms(self.sharded, self.scenario.quorum)

    def adopted(self, name: str, record: RoundCommit) -> None:
        if name in self.honest:
            self.adoptions.append((name, record))
            self.require_sound(record)

    def require_sound(self, record: RoundCommit) -> None:
        """What an honest member adopts is what was voted for, and counts what was offered.

        What liars state of a round that was led by somebody else, while honest members are silent, nobody can know.
        """
        if not self.scenario.keyed:
            return
        digest, liars = record_digest(record), len(set(self.liars) & set(self.names))
        voted = {name for name in self.honest if (name, digest) in self.votes}
        require(len(voted) + liars >= self.scenario.majority, f"only {sorted(voted)} have voted for {record}")
        is_recovered = record.leader != self.owner(record.term)
        for name in () if is_recovered else set(record.weights) & set(self.honest):
            offered = self.offers.get((name, record.number))
            require(offered is not None and offered.weight == record.weights[name], f"{name} did not offer {record}")
            require(len(record.weights) >= self.scenario.quorum, f"{name} is in a round below its floor: {record}")
        if self.scenario.is_agreed:
            first = self.outcomes.setdefault(record.number, record)
            require(first.outcome == record.outcome, f"two outcomes of round {record.number}: {first} and {record}")


class HonestSite(Site):
    """A member as it should be; an error in it is a violation."""

    world: ByzantineWorld

    def receive(self, sender: str, message: Any) -> None:
        self.guarded(lambda: super(HonestSite, self).receive(sender, message))

    def tick(self) -> None:
        self.guarded(super().tick)

    def work(self, machine: Any, instruction: Instruction) -> None:
        self.guarded(lambda: super(HonestSite, self).work(machine, instruction))

    def guarded(self, does: Callable[[], None]) -> None:
        try:
            does()
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{self.name} has ended: {type(error).__name__}: {error}") from error

    def tell(self, name: str, message: Any) -> None:
        if isinstance(message, RoundVote) and name == self.name:
            self.world.votes.add((self.name, message.record))
        self.world.send(self.name, name, message)

    def contribute(self, opened: RoundOpen) -> MachineEvent | None:
        place = 1 + self.world.names.index(self.name)
        blob = BlobRef(digest=f"{opened.number % 16:x}" * 32 + f"{place:x}" * 32, size=1)
        offer = ContributionRef(weight=float(place), blobs=(blob,), values={"loss": float(opened.number)})
        self.world.offers[self.name, opened.number] = offer
        return taking_part.ContributionMade(offer)


def require(holds: bool, what: str) -> None:
    """Raises `Violation` unless it holds."""
    if not holds:
        raise Violation(what)


def simulate(seed: int, world_of: Callable[[Scenario], ByzantineWorld] | None = None, **changes: Any) -> Counter[str]:
    """Plays what a seed makes; counts what has happened.

    Args:
        seed: makes the scenario.
        world_of: makes another world than that of rounds without sums.
        changes: of the scenario.

    Raises:
        Violation: something that must not happen; says what, and by which seed.
    """
    scenario = replace(Scenario.of(seed), **changes)
    world = (world_of or ByzantineWorld.of)(scenario)
    try:
        for name in dict.fromkeys((*scenario.names, *scenario.liars)):
            world.start(name)
        world.request()
        world.tick(1.0)
        for _ in range(scenario.steps):
            step(world)
        end(world)
        world.require_private()
    except Violation as error:
        raise Violation(f"{error}\nplay it again: {world.command} --seed {seed} ({scenario})") from error
    finally:
        world.close()
    adopted = len(world.adoptions)
    told = Counter({f"lied: {kind}": count for kind, count in world.said_by_liars.items()})
    return told + Counter({"runs": 1, "adoptions": adopted, f"runs with {scenario.role} liars": 1})


def end(world: ByzantineWorld) -> None:
    """The liars are gone, the honest are all there."""
    for name in [name for name in world.liars if name in world.sites]:
        world.kill(name)
    for name in world.honest:
        if name not in world.sites:
            world.start(name)
    before = max(world.disks[name].version.number for name in world.honest)
    if not world.must_go_on or world.run_fairly(
        lambda: all(is_done(world, name, before) for name in world.honest), PATIENCE
    ):
        return
    held = {name: (world.disks[name].done, world.disks[name].version.number) for name in world.honest}
    raise Violation(f"no progress once the liars are gone, after round {before}: {held}")


def is_done(world: ByzantineWorld, name: str, before: int) -> bool:
    """Whether the rounds that were requested are over and a member has the latest, or it has one more than anybody had.

    Who was behind may have adopted a later round of another plan and have no record of those in between.
    """
    are_over = any(world.disks[each].done.get(PLAN.key, 0) >= ROUNDS for each in world.honest)
    return world.disks[name].version.number >= before + (not are_over)
