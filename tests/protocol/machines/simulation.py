"""Members that hold rounds with the pure machines alone, in a world where anything may happen in any order.

A site keeps on its disk what a member keeps (term, vote, record), and loses everything else when it dies. Messages and
work are taken from their heaps in whatever order the test likes. What is adopted anywhere is held against what was
adopted before: one outcome for each round, with the votes of a majority.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol.machines import coordinator_values as leading
from protocol.machines.machine import Instruction
from protocol.machines.signatory import Signer
from protocol.messages.rounds import RoundCommit
from tests.protocol.machines.simulated_site import Site
from tests.protocol.machines.simulated_values import PLAN, ROUNDS, Disk, Keyless, Terms


@dataclass
class World:
    """Sites, messages under way, and work that is not done yet.

    Attributes:
        outcomes: what was adopted anywhere, by the round's number.
    """

    names: Sequence[str]
    sharded: bool
    now: float = 0.0
    sites: dict[str, Site] = field(default_factory=dict)
    disks: dict[str, Disk] = field(default_factory=dict)
    messages: list[tuple[str, str, Any]] = field(default_factory=list)
    works: list[tuple[Site, Any, Instruction]] = field(default_factory=list)
    outcomes: dict[int, RoundCommit] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """A site is (again) alive, and linked with all others that are."""
        disk = self.disks.setdefault(name, Disk())
        site = self.sites[name] = Site(self, name, disk)
        for other in list(self.sites.values()):
            if other is not site:
                other.arrived(name)
                site.arrived(other.name)

    def kill(self, name: str) -> None:
        """A site is gone."""
        site = self.sites.pop(name)
        self.works = [work for work in self.works if work[0] is not site]
        self.messages = [each for each in self.messages if each[1] != name]
        for other in list(self.sites.values()):
            other.departed(name)

    def deliver(self, index: int, *, again: bool = False) -> None:
        """A message arrives, and may arrive another time."""
        sender, receiver, message = self.messages[index] if again else self.messages.pop(index)
        if receiver in self.sites:
            self.sites[receiver].receive(sender, message)

    def work(self, index: int) -> None:
        """Some work is done, if it can be."""
        site, machine, instruction = self.works.pop(index)
        site.work(machine, instruction)

    def run_fairly(self, is_over: Callable[[], bool], steps: int) -> bool:
        """Everything is done in the order in which it came; whether it has come to its end after so many steps."""
        for _ in range(steps):
            if is_over():
                return True
            if self.messages:
                self.deliver(0)
            if self.works:
                self.work(0)
            if not self.messages:
                self.request()
                self.tick(0.3)
        return False

    def request(self) -> None:
        """The requester asks (again) for the rounds that are not over, at everybody."""
        for site in list(self.sites.values()):
            if site.disk.version.number < ROUNDS and site.requests.add(PLAN, "g"):
                site.lead(leading.Requested())

    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        for site in list(self.sites.values()):
            site.tick()

    def signer(self, _name: str) -> Signer:
        """Signs what a member says."""
        return Keyless()

    def floor(self, _name: str) -> int:
        """The fewest contributions that a member admits."""
        return 1

    def terms(self, _name: str) -> Terms:
        """Of every plan, as a leader takes them."""
        return Terms(self.sharded)

    def adopted(self, _name: str, record: RoundCommit) -> None:
        """Somebody has adopted an outcome: it is what everybody adopts, and a majority has voted for it."""
        assert len(set(record.votes) & set(self.names)) > len(self.names) // 2
        first = self.outcomes.setdefault(record.number, record)
        assert (first.outcome, first.index, first.weights) == (record.outcome, record.index, record.weights)
        assert record.number == record.index
