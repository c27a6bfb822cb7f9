"""One member of a simulation: what it keeps on its disk, and as much of the service around the machines as it needs."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from protocol.certificates import possibly_committed, vote_for
from protocol.election import Election, ElectionOutcome, ElectionWon, StartElection, TellOwner
from protocol.machines import coordinator_values as leading
from protocol.machines import participant_values as taking_part
from protocol.machines.admission import records_in, refusal
from protocol.machines.coordinator import RoundCoordinator
from protocol.machines.events import Arrived, Begin, Departed, Heard, Publish, Tell
from protocol.machines.machine import Instruction, MachineEvent, Tick
from protocol.machines.participant import RoundParticipant
from protocol.machines.requests import RequestQueue
from protocol.machines.signatory import Signatory
from protocol.messages import LeaderAnnouncement, ModelAdopted, Prepare, Promise, RecordRequest
from protocol.messages.election import AcceptedVote
from protocol.messages.round_values import BlobRef, ContributionRef
from protocol.messages.rounds import (
    RoundClose,
    RoundCommit,
    RoundMessage,
    RoundOpen,
    RoundsAborted,
    RoundsRequest,
    RoundVote,
)
from protocol.quorum import DeadlineEstimator, QuorumPolicy
from protocol.rounds import attempt_of, round_message, unsigned
from tests.protocol.machines.simulated_values import INITIAL, PLAN, Disk

if TYPE_CHECKING:
    from tests.protocol.machines.simulation import World


class Site:
    """One member: as much of the service around the machines as a round needs."""

    def __init__(self, world: World, name: str, disk: Disk) -> None:
        self.world, self.name, self.disk = world, name, disk
        self.election = Election(name, world.names, disk.term)
        self.signatory = Signatory(world.signer(name), lambda: world.names)
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
        part = None if self.part is None else (self.part.opened, self.part.leader)
        if refusal(self.signatory, self.name, sender, message, part) is None:
            for record in records_in(message):
                self.election.proven(record.term)
            self.dispatch(sender, message)

    def dispatch(self, sender: str, message: Any) -> None:
        match message:
            case RoundsRequest() | RoundsAborted() | RecordRequest():
                self.asked(sender, message)
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

    def asked(self, sender: str, message: RoundsRequest | RoundsAborted | RecordRequest) -> None:
        match message:
            case RoundsRequest(plan=plan):
                if self.disk.done.get(plan.key, 0) < plan.rounds and self.requests.add(plan, sender):
                    self.lead(leading.Requested())
            case RoundsAborted(term=term, key=key):
                if term >= self.election.term:
                    self.requests.remove(key)
            case RecordRequest():
                for record in self.disk.records.values():
                    self.tell(sender, record)

    def open(self, sender: str, opened: RoundOpen) -> None:
        if self.follow(sender, opened.term) and self.name in opened.members and self.is_later(opened):
            self.leave()
            self.requests.add(opened.plan, sender)
            self.part = RoundParticipant(self.name, opened, sender, self.signatory, self.world.floor(self.name))
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
        if isinstance(message, RoundVote):
            message = self.counted(sender, message)
        attempt = self.coordinator.attempt if self.coordinator else None
        if attempt is not None and attempt.concerns(message):
            self.lead(Heard(sender, message))
        if self.part is not None and attempt_of(self.part.opened) == attempt_of(message):
            self.take_part(Heard(sender, message))
        elif self.is_later(message):
            self.early.append((sender, message))

    def counted(self, sender: str, vote: RoundVote) -> RoundVote:
        """A vote as it counts: for no record that there is, where its sender has not signed it."""
        if not self.signatory.has_signed(sender, vote, vote.signature):
            return vote.model_copy(update={"record": "0" * 64})
        if self.disk.vote is not None and vote_for(self.disk.vote.record) == unsigned(vote):
            record = self.disk.vote.record
            record = record.model_copy(update={"votes": {sender: vote.signature, **record.votes}})
            self.disk.vote = self.disk.vote.model_copy(update={"record": record})
        return vote

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

    def apply(self, outcomes: list[ElectionOutcome]) -> None:
        if not self.election.is_leader:
            self.coordinator = None
        if self.part is not None and self.part.opened.term < self.election.term:
            self.leave()
        for outcome in outcomes:
            match outcome:
                case StartElection(term):
                    self.disk.term = max(self.disk.term, term)
                    self.publish(Prepare(term=term), own=False)
                case TellOwner(name):
                    self.promise(name)
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
            case leading.PreparePlan(plan):
                prepared = leading.Prepared(self.world.terms(self.name), self.view(plan.key))
                return prepared if plan.model == PLAN.model else leading.NotPrepared("there is no such model")
            case leading.AdoptOutcome(record):
                self.adopt(record)
                return leading.OutcomeAdopted(self.view(record.key))
        return None

    def view(self, key: str) -> leading.StoreView:
        lost = frozenset(self.disk.record.lost if self.disk.record else ())
        return leading.StoreView(self.disk.records, self.disk.version, self.disk.done.get(key, 0), lost)

    def done(self, instruction: Instruction) -> MachineEvent | None:
        assert self.part is not None
        opened, event = self.part.opened, None
        match instruction:
            case taking_part.PrepareBase():
                event = self.prepare(opened)
            case taking_part.Contribute():
                event = self.contribute(opened)
            case taking_part.Compute(close):
                event = self.compute(opened, close)
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
        if opened.model != PLAN.model:
            return taking_part.PartFailed(f"there is no model {opened.model}")
        if (self.disk.version.number + 1, self.disk.version.outcome) != (opened.number, opened.base):
            return taking_part.PartFailed("it holds another base")
        return taking_part.BasePrepared()

    def contribute(self, opened: RoundOpen) -> MachineEvent | None:
        return taking_part.ContributionMade(ContributionRef(weight=1.0, blobs=(INITIAL,), values={}))

    def compute(self, opened: RoundOpen, close: RoundClose | None) -> MachineEvent | None:
        if close is None:
            assert opened.recovered is not None
            votes = len(self.signatory.valid_votes(opened.recovered))
            if not possibly_committed(votes, len(self.absent()), self.signatory.majority):
                return taking_part.PartFailed("it cannot have been committed with so few votes")
            return taking_part.OutcomeComputed(opened.recovered.outcome)
        told = (opened.base.digest, *sorted(f"{name} {each.weight}" for name, each in close.contributions.items()))
        return taking_part.OutcomeComputed(BlobRef(digest=sha256("".join(told).encode()).hexdigest(), size=1))

    def adopt(self, record: RoundCommit) -> None:
        """A newer outcome is adopted; a vote for it or for an earlier round is settled."""
        if record.model == PLAN.model and record.number > self.disk.version.number:
            self.world.adopted(self.name, record)
            self.disk.record = record
            self.disk.done[record.key] = max(record.index, self.disk.done.get(record.key, 0))
            if self.disk.vote is not None and self.disk.vote.record.number <= record.number:
                self.disk.vote = None
