"""One member of a simulation: what it keeps on its disk, and as much of the service around the machines as it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from protocol.certificates import vote_for
from protocol.election import Election, ElectionWon, StartElection
from protocol.machines import coordinator_values as leading
from protocol.machines import participant_values as taking_part
from protocol.machines.coordinator import RoundCoordinator
from protocol.machines.events import Arrived, Begin, Departed, Heard, Publish, Tell
from protocol.machines.machine import Instruction, MachineEvent, Tick
from protocol.machines.participant import RoundParticipant
from protocol.machines.requests import RequestQueue
from protocol.machines.signatory import Signatory
from protocol.messages import LeaderAnnouncement, ModelAdopted, Prepare, Promise
from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import BlobRef, ContributionRef, ModelVersion, RoundPlanMessage
from protocol.messages.rounds import RoundClose, RoundCommit, RoundMessage, RoundOpen, RoundVote
from protocol.quorum import DeadlineEstimator, QuorumPolicy
from protocol.rounds import attempt_of, round_message, version_after

if TYPE_CHECKING:
    from tests.protocol.machines.simulation import World

ROUNDS = 3
PLAN = RoundPlanMessage(key="k", requester="g", model="m", task="t", rounds=ROUNDS, federation="{}", options={})
INITIAL = BlobRef(digest="0" * 64, size=1)


class Keyless:
    """Signs nothing."""

    run = "run"

    def attest(self, _statement: bytes) -> bytes:
        return b""

    def attested(self, _name: str, _statement: bytes, signature: bytes) -> bool:
        return not signature


@dataclass(frozen=True)
class Terms:
    """Of the plan."""

    is_sharded: bool
    quorum: int = 1
    enough: int | None = None

    def sharded(self, _members: int) -> bool:
        return self.is_sharded

    def threshold(self, _contributors: int) -> int:
        return 0

    def drawn(self, members: tuple[str, ...], _model: str, _number: int) -> tuple[str, ...]:
        return members


@dataclass
class Disk:
    """What survives a death."""

    term: int = 0
    record: RoundCommit | None = None
    vote: AcceptedVote | None = None

    @property
    def version(self) -> ModelVersion:
        return version_after(self.record) if self.record else ModelVersion(number=0, outcome=INITIAL)

    @property
    def records(self) -> dict[str, RoundCommit]:
        return {"m": self.record} if self.record else {}

    @property
    def votes(self) -> dict[str, AcceptedVote]:
        return {"m": self.vote} if self.vote else {}


class Site:
    """One member: as much of the service around the machines as a round needs."""

    def __init__(self, world: World, name: str, disk: Disk) -> None:
        self.world, self.name, self.disk = world, name, disk
        self.election = Election(name, world.names, disk.term)
        self.signatory = Signatory(Keyless(), lambda: world.names)
        self.requests, self.attempts = RequestQueue(), 0
        self.coordinator: RoundCoordinator | None = None
        self.part: RoundParticipant | None = None
        self.settled = (0, 0)
        self.early: list[tuple[str, RoundMessage]] = []

    def arrived(self, name: str) -> None:
        self.election.arrived(name)
        if self.election.is_leader:
            announced = LeaderAnnouncement(term=self.election.term, attempt=self.attempts, records=self.disk.records)
            self.tell(name, announced)
        self.lead(Arrived(name))
        if self.coordinator and self.coordinator.attempt and self.coordinator.attempt.commit:
            self.tell(name, self.coordinator.attempt.commit)

    def departed(self, name: str) -> None:
        self.election.departed(name)
        self.lead(Departed(name, "lost"))

    def tick(self) -> None:
        self.apply(self.election.tick(self.world.now, self.disk.records, self.disk.votes))
        if self.coordinator is not None and self.world.now >= self.coordinator.deadline:
            self.lead(Tick())
        if self.part is not None and self.world.now >= self.part.deadline:
            self.take_part(Tick())

    def receive(self, sender: str, message: Any) -> None:
        match message:
            case Prepare(term=term):
                promised = self.election.prepare(sender, term)
                self.apply([])
                if promised:
                    self.disk.term = max(self.disk.term, term)
                self.promise(sender)
            case Promise():
                self.apply(self.election.promise(sender, message.term, message.records, message.accepted))
                self.lead(leading.Promised())
            case LeaderAnnouncement():
                late = self.part is not None and attempt_of(self.part.opened) > (message.term, message.attempt)
                if self.follow(sender, message.term) and sender != self.name and not late:
                    self.leave()
                    for record in message.records.values():
                        self.adopt(record)
            case RoundOpen():
                self.open(sender, message)
            case RoundCommit():
                self.commit(sender, message)
            case RoundMessage():
                self.hear(sender, message)

    def open(self, sender: str, opened: RoundOpen) -> None:
        if self.follow(sender, opened.term) and self.name in opened.members and self.is_later(opened):
            self.leave()
            self.requests.add(opened.plan, sender)
            self.part = RoundParticipant(self.name, opened, sender, self.signatory, 1)
            self.take_part(Begin())
            early, self.early = self.early, []
            for each in early:
                self.receive(*each)

    def commit(self, sender: str, commit: RoundCommit) -> None:
        mine = self.part is not None and attempt_of(self.part.opened) == attempt_of(commit)
        in_round = mine and self.part is not None and self.part.holds_base
        if (self.is_later(commit) or (mine and not in_round)) and self.follow(sender, commit.term):
            self.settled = max(self.settled, attempt_of(commit))
            self.leave()
            self.adopt(commit)
            self.tell(sender, round_message(ModelAdopted, commit))
        elif mine:
            self.hear(sender, commit)
        if commit.index == commit.rounds:
            self.requests.remove(commit.key)

    def hear(self, sender: str, message: RoundMessage) -> None:
        if isinstance(message, RoundVote) and self.disk.vote is not None:
            record = self.disk.vote.record
            if vote_for(record) == message:
                record = record.model_copy(update={"votes": {sender: b"", **record.votes}})
                self.disk.vote = self.disk.vote.model_copy(update={"record": record})
        attempt = self.coordinator.attempt if self.coordinator else None
        if attempt is not None and attempt.concerns(message):
            self.lead(Heard(sender, message))
        if self.part is not None and attempt_of(self.part.opened) == attempt_of(message):
            self.take_part(Heard(sender, message))
        elif self.is_later(message):
            self.early.append((sender, message))

    def is_later(self, message: RoundMessage) -> bool:
        present = attempt_of(self.part.opened) if self.part is not None else (0, 0)
        return attempt_of(message) > max(present, self.settled)

    def follow(self, sender: str, term: int) -> bool:
        if not self.election.accept_leader(sender, term):
            self.promise(sender)
            return False
        self.disk.term = max(self.disk.term, term)
        self.apply([])
        return True

    def promise(self, name: str) -> None:
        self.tell(name, Promise(term=self.election.term, records=self.disk.records, accepted=self.disk.votes))

    def apply(self, outcomes: list[StartElection | ElectionWon]) -> None:
        if not self.election.is_leader:
            self.coordinator = None
        if self.part is not None and self.part.opened.term < self.election.term:
            self.leave()
        for outcome in outcomes:
            match outcome:
                case StartElection(term):
                    self.disk.term = max(self.disk.term, term)
                    self.publish(Prepare(term=term), own=False)
                case ElectionWon():
                    self.coordinator = RoundCoordinator(
                        self.election, self.signatory, self.requests, policy=QuorumPolicy(), absent=self.absent,
                        estimator=DeadlineEstimator(QuorumPolicy()), attempts=self.attempts,
                    )  # fmt: skip
                    self.lead(Begin())

    def absent(self) -> dict[str, str]:
        return dict.fromkeys(set(self.election.members) - self.election.alive, "lost")

    def lead(self, event: MachineEvent) -> None:
        if self.coordinator is not None:
            self.carry_out(self.coordinator, self.coordinator.handle(event, self.world.now))
            self.attempts = self.coordinator.attempts if self.coordinator else self.attempts

    def take_part(self, event: MachineEvent) -> None:
        if self.part is not None:
            self.carry_out(self.part, self.part.handle(event, self.world.now))

    def leave(self) -> None:
        self.take_part(taking_part.Left())

    def carry_out(self, machine: Any, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Publish(message):
                    self.publish(message)
                case Tell(name, message):
                    self.tell(name, message)
                case _:
                    self.world.works.append((self, machine, instruction))

    def publish(self, message: Any, *, own: bool = True) -> None:
        for name in self.world.names:
            if own or name != self.name:
                self.tell(name, message)

    def tell(self, name: str, message: Any) -> None:
        if name in self.world.sites:
            self.world.messages.append((self.name, name, message))

    def work(self, machine: Any, instruction: Instruction) -> None:
        """Does what takes time; work that has to wait for this site's own part goes back to the heap."""
        if machine is self.coordinator:
            busy = self.part is not None and not self.part.is_over
            if isinstance(instruction, leading.EndPart | leading.AdoptOutcome) and busy:
                self.world.works.append((self, machine, instruction))
            elif (event := self.led(instruction)) is not None:
                self.lead(event)
        elif machine is self.part and not self.part.is_over and (event := self.done(instruction)) is not None:
            self.take_part(event)

    def led(self, instruction: Instruction) -> MachineEvent | None:
        match instruction:
            case leading.EndPart():
                return leading.PartEnded()
            case leading.Reach(record):
                self.adopt(record)
                return leading.Reached()
            case leading.Recall():
                return leading.Recalled(self.disk.records)
            case leading.PreparePlan():
                return leading.Prepared(Terms(self.world.sharded), self.view())
            case leading.AdoptOutcome(record):
                self.adopt(record)
                return leading.OutcomeAdopted(self.view())
        return None

    def view(self) -> leading.StoreView:
        lost = frozenset(self.disk.record.lost if self.disk.record else ())
        return leading.StoreView(self.disk.records, self.disk.version, self.disk.version.index, lost)

    def done(self, instruction: Instruction) -> MachineEvent | None:
        assert self.part is not None
        opened, event = self.part.opened, None
        match instruction:
            case taking_part.PrepareBase():
                event = self.prepare(opened)
            case taking_part.Contribute():
                event = taking_part.ContributionMade(ContributionRef(weight=1.0, blobs=(INITIAL,), values={}))
            case taking_part.Compute(close):
                event = taking_part.OutcomeComputed(self.outcome(opened, close))
            case taking_part.PersistVote(record):
                self.disk.vote = AcceptedVote(plan=opened.plan, record=record)
                event = taking_part.VotePersisted()
            case taking_part.Adopt(record):
                self.adopt(record)
                event = taking_part.RoundAdopted()
        return event

    def prepare(self, opened: RoundOpen) -> MachineEvent:
        for record in opened.records.values():
            self.adopt(record)
        if (self.disk.version.number + 1, self.disk.version.outcome) != (opened.number, opened.base):
            return taking_part.PartFailed("it holds another base")
        return taking_part.BasePrepared()

    def outcome(self, opened: RoundOpen, close: RoundClose | None) -> BlobRef:
        if close is None:
            assert opened.recovered is not None
            return opened.recovered.outcome
        told = (opened.base.digest, *sorted(close.contributions))
        return BlobRef(digest=sha256("".join(told).encode()).hexdigest(), size=1)

    def adopt(self, record: RoundCommit) -> None:
        """A newer outcome is adopted; a vote for it or for an earlier round is settled."""
        if record.number > self.disk.version.number:
            self.world.adopted(record)
            self.disk.record = record
            if self.disk.vote is not None and self.disk.vote.record.number <= record.number:
                self.disk.vote = None
