"""A client's part in the rounds: it hears orders, sits in every round, and leads when it is its turn.

Messages may overtake each other (a contribution comes from another peer than the opening of its round, and what was
lost comes late): what belongs to a round that has not opened here yet waits for it, what belongs to one that is over
is refused and counted. Whatever a member says to all it also says to itself, so that there is one way for everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fednet.api import Participant
from nodes.blob_store import BlobStore
from nodes.capability import Handler
from nodes.compute import ComputeThread, ThreadProgress
from nodes.node import Node
from nodes.progress import progress_publisher
from nodes.rounds.attempt import RoundImpossible, abort_message
from nodes.rounds.checkpoints import CheckpointStore
from nodes.rounds.context import RoundContext
from nodes.rounds.coordinator import RoundCoordinator
from nodes.rounds.leadership import Leadership, RequestQueue
from nodes.rounds.participant import RoundParticipant
from nodes.rounds.participation import ParticipationQueue
from nodes.rounds.worker import RoundWorker
from protocol.election import Election, ElectionWon, StartElection
from protocol.messages import Capabilities, Message, ProgressReport
from protocol.messages.presence import PeerInfo
from protocol.messages.rounds import (  # fmt: skip
    ContributionAvailable,
    ContributionReceipt,
    LeaderAnnouncement,
    ModelAdopted,
    Prepare,
    Promise,
    RecordRequest,
    RoundClose,
    RoundCommit,
    RoundDecline,
    RoundMessage,
    RoundOpen,
    RoundPlanMessage,
    RoundsAborted,
    RoundsRequest,
    RoundVote,
    ShardReduced,
)
from protocol.messages.secure_sum import (
    ConsistencyCheck,
    EncryptedShare,
    KeyAdvertisement,
    SecureSumMessage,
    ShareDistribution,
    ShareReveal,
    SharesReceived,
)
from protocol.rounds import attempt_of
from protocol.topics import PROGRESS, ROUNDS

log = logging.getLogger(__name__)

LEADER_CHECK_INTERVAL = 0.1
"""Seconds between two looks at who should lead."""


class RoundService:
    """The rounds conversation at a client.

    Args:
        node: the node that takes part.
        compute: the thread of its device.
        reducer: the thread on which states are packed, checked and reduced.
        depot: blobs that are offered and fetched.
        folder: where closed rounds are kept; None keeps nothing.
        sealed: whether this client contributes to secure rounds only, whatever is ordered.
    """

    topics: tuple[str, ...] = (ROUNDS,)

    def __init__(
        self,
        node: Node,
        compute: ComputeThread,
        reducer: ComputeThread,
        depot: BlobStore,
        folder: Path | None,
        *,
        sealed: bool = False,
    ) -> None:
        self._node = node
        self._sealed = sealed
        self._compute = compute
        self._reducer = reducer
        self._blob_store = depot
        self.models = CheckpointStore(folder)
        self.election = Election(node.name, node.spec.expected, self.models.term)
        self._coordinator = RoundCoordinator(self.election, node.spec.rounds, node.spec.seed, self._say)
        self._requests = RequestQueue()
        self._linked: set[str] = set()
        self._ready: set[str] = set()
        self._context: RoundContext | None = None
        self._place = ParticipationQueue(node)
        self._leadership: Leadership | None = None
        self._leading: asyncio.Task[None] | None = None
        self._enough = False
        self._table: Mapping[type[Message], Callable[[str, Any], None]] = {
            RoundsRequest: self._order,
            Prepare: self._claim,
            Promise: self._promise,
            LeaderAnnouncement: self._leads,
            RoundOpen: self._open,
            ContributionAvailable: self._contribution,
            RoundDecline: self._decline,
            ContributionReceipt: self._receipt,
            RoundClose: self._close,
            ShardReduced: self._reduced,
            RoundVote: self._vote,
            RoundCommit: self._commit,
            ModelAdopted: self._adopted,
            RoundsAborted: self._abandon,
            KeyAdvertisement: self._secure,
            ShareDistribution: self._secure,
            EncryptedShare: self._secure,
            SharesReceived: self._secure,
            ConsistencyCheck: self._secure,
            ShareReveal: self._secure,
            RecordRequest: self._recall,
        }
        self.handlers: Mapping[type[Message], Handler] = {
            **dict.fromkeys(self._table, self._heard),
            Capabilities: self._card,
        }

    async def open(self, participant: Participant) -> None:
        """Takes part from now on; a participant of an earlier life is given what its last rounds have left.

        Raises:
            MethodError: it can no longer use what they have left.
        """
        bench = RoundWorker(participant, self._compute, lambda: ThreadProgress(progress_publisher(self._node)))
        means = RoundContext(
            self._node.name, self._node.run, bench, self.models, self._blob_store, self._reducer, self._say, self._tell,
            sealed=self._sealed,
        )  # fmt: skip
        await means.resume()
        self._context = means
        self._node.spawn(self._look(), "rounds")

    def close(self) -> None:
        """Takes no further part: work that is under way ends."""
        if self._context is not None:
            self._context.bench.stop()

    def linked(self, peer: PeerInfo) -> None:
        """A member counts as there once it is linked and its card says that it is ready."""
        self._linked.add(peer.name)
        self._arrive(peer.name)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """A member is gone; if it led, somebody else takes over."""
        self._linked.discard(peer.name)
        self._ready.discard(peer.name)
        self.election.departed(peer.name)
        self._coordinator.departed(peer.name, f"{'left' if left else 'lost'}: {reason}")
        self._consider()

    def _arrive(self, name: str) -> None:
        if name in self._linked & self._ready:
            self.election.arrived(name)
            self._coordinator.arrived()
            if self.election.is_leader and name in self.election.members:
                term, attempt = self.election.term, self._coordinator.attempts
                self._tell(name, LeaderAnnouncement(term=term, attempt=attempt, versions=self.models.standings()))

    async def _look(self) -> None:
        while True:
            self._consider()
            self._count()
            await asyncio.sleep(LEADER_CHECK_INTERVAL)

    def _count(self) -> None:
        """Says so when too few are left for a round to close: a network that is cut goes on where the majority is."""
        here, needed = sorted(self.election.alive), self.election.majority
        enough = len(here) >= needed
        if self._enough and not enough:
            note = f"waits: {needed} members are needed and {', '.join(here)} are here"
            log.warning("%s %s", self._node.name, note)
            self._node.publish(
                PROGRESS, ProgressReport(phase="waiting", done=len(here), total=needed, values={}, note=note[:200])
            )
        self._enough = enough

    def _consider(self) -> None:
        if self._context is not None:
            self._follow(
                self.election.tick(asyncio.get_running_loop().time(), self.models.standings(), self.models.voted())
            )

    def _follow(self, outcomes: list[StartElection | ElectionWon]) -> None:
        """Does what the council says; who is no lead any more ceases to lead, and nobody sits under an old term."""
        for outcome in outcomes:
            match outcome:
                case StartElection(term):
                    self._node.spawn(self._record_promise(term, None), "claim")
                case ElectionWon():
                    self._lead(outcome)
        if not self.election.is_leader and self._leading is not None:
            self._leading.cancel()
            self._leading = self._leadership = None
        self._place.leave(under=self.election.term)

    def _lead(self, elected: ElectionWon) -> None:
        assert self._context is not None  # noqa: S101 - nobody claims a term before it is open
        log.info("%s leads by term %d", self._node.name, elected.term)
        self._leadership = Leadership(
            elected, self._context, self.election, self._coordinator, self._requests, self._place.left
        )
        self._leading = self._node.spawn(self._leadership.lead(), "lead")

    async def _record_promise(self, term: int, claimant: str | None) -> None:
        """Claims a term or promises it, once it is kept for good: a later life must not forget it."""
        await self._place.left(under=term)
        await self._reducer.run(partial(self.models.record_promise, term))
        if claimant is not None:
            self._promise_to(claimant)
        elif term == self.election.term:
            self._node.publish(ROUNDS, Prepare(term=term))

    def _promise_to(self, name: str) -> None:
        models = self.models
        self._tell(name, Promise(term=self.election.term, versions=models.standings(), accepted=models.voted()))

    def _heard(self, envelope: Any, message: Message) -> None:
        self._take(envelope.sender, message)

    def _take(self, sender: str, message: Message) -> None:
        if isinstance(message, RoundsRequest) or sender in self.election.members:
            self._table[type(message)](sender, message)
        else:
            self._node.counts["no member"] += 1

    def _order(self, sender: str, order: RoundsRequest) -> None:
        plan, leads = order.plan, self.election.is_leader
        if leads:
            for record in self.models.of(plan.key):
                if record.index > order.after and not self._coordinator.holds(record):
                    self._node.tell(sender, record)
        if self.models.forgotten(plan.key, order.after):
            self._refuse(sender, plan, "its rounds are over, and their records are no longer kept")
        elif self.models.done(plan.key) < plan.rounds and not self._requests.add(plan):
            self._refuse(sender, plan, "too many orders are waiting")

    def _refuse(self, asker: str, plan: RoundPlanMessage, reason: str) -> None:
        if self.election.is_leader:
            self._node.tell(asker, abort_message(self.election.term, plan, RoundImpossible(reason, {})))

    def _claim(self, sender: str, claim: Prepare) -> None:
        promised = self.election.prepare(sender, claim.term)
        self._follow([])
        if promised:
            self._node.spawn(self._record_promise(claim.term, sender), "promise")
        else:
            self._promise_to(sender)

    def _promise(self, sender: str, promise: Promise) -> None:
        self._follow(self.election.promise(sender, promise.term, promise.versions, promise.accepted))

    def _leads(self, sender: str, said: LeaderAnnouncement) -> None:
        if not self.election.accept_leader(sender, said.term):
            self._promise_to(sender)
            return
        self._follow([])
        if self._place.seat is not None and attempt_of(self._place.seat.opened) > (said.term, said.attempt):
            return  # it was said before the opening of the round that is under way, and has come late
        if self._context is not None and sender != self._node.name:
            self._place.leave()
            self._place.run_after(partial(self._context.catch_up, sender, said))

    def _open(self, sender: str, opened: RoundOpen) -> None:
        if not self.election.accept_leader(sender, opened.term):
            self._node.counts["stale term"] += 1
            self._promise_to(sender)
            return
        self._follow([])
        if self._context is None:
            log.info("round %d of %s opens before this member is ready", opened.number, opened.model)
            return
        if self._node.name in opened.members and self._place.later(opened):
            self._start_participant(RoundParticipant(self._context, opened, sender))

    def _start_participant(self, seat: RoundParticipant) -> None:
        """Takes part in a round; whatever has come early for it is heard now."""
        self._requests.add(seat.opened.plan)
        for sender, message in self._place.start(seat):
            self._take(sender, message)

    def _contribution(self, sender: str, contribution: ContributionAvailable) -> None:
        if seat := self._in(sender, contribution):
            self._coordinator.offered(sender, contribution)
            seat.offered(sender, contribution)

    def _close(self, sender: str, close: RoundClose) -> None:
        if (seat := self._in(sender, close)) and sender == seat.lead:
            seat.closing(close)

    def _reduced(self, sender: str, reduced: ShardReduced) -> None:
        if seat := self._in(sender, reduced):
            self._coordinator.reduced(sender, reduced)
            seat.reduced(sender, reduced)

    def _commit(self, sender: str, commit: RoundCommit) -> None:
        if self.models.learn(commit):
            if self._leadership is not None:
                self._leadership.recalled.set()
        elif (seat := self._in(sender, commit)) and sender == seat.lead:
            seat.committed(commit)
            if commit.index == commit.rounds:
                self._requests.remove(commit.key)

    def _secure(self, sender: str, message: SecureSumMessage) -> None:
        if seat := self._in(sender, message):
            self._coordinator.secure(sender, message)
            seat.secure(sender, message)

    def _adopted(self, sender: str, adopted: ModelAdopted) -> None:
        self._coordinator.adopted(sender, adopted)

    def _abandon(self, sender: str, said: RoundsAborted) -> None:
        if said.term >= self.election.term:
            self._requests.remove(said.key)

    def _recall(self, sender: str, recall: RecordRequest) -> None:
        for record in self.models.recalled(recall.model, recall.after):
            self._tell(sender, record)

    def _card(self, envelope: Any, card: Capabilities) -> None:
        if card.ready:
            self._ready.add(envelope.sender)
            self._arrive(envelope.sender)

    def _decline(self, sender: str, decline: RoundDecline) -> None:
        self._coordinator.declined(sender, decline)

    def _receipt(self, sender: str, receipt: ContributionReceipt) -> None:
        self._coordinator.receipt(sender, receipt)

    def _vote(self, sender: str, vote: RoundVote) -> None:
        self._coordinator.voted(sender, vote)

    def _in(self, sender: str, message: RoundMessage) -> RoundParticipant | None:
        """The seat that a message is about; one that is early waits, one that is late is counted."""
        seat = self._place.of(message)
        if seat is None and not self._place.wait(sender, message):
            self._node.counts["stale round"] += 1
            if isinstance(message, ContributionAvailable):
                self._coordinator.stale(sender, message.number)
        return seat

    def _say(self, message: Message) -> None:
        self._node.publish(ROUNDS, message)
        asyncio.get_running_loop().call_soon(self._take, self._node.name, message)

    def _tell(self, name: str, message: Message) -> None:
        if name == self._node.name:
            asyncio.get_running_loop().call_soon(self._take, name, message)
        else:
            self._node.tell(name, message)
