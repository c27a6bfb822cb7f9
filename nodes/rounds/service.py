"""The rounds conversation at a member: dispatches messages to its part in rounds, to the election and to its leading.

Messages may overtake each other (a contribution comes from another peer than the opening of its round, and a lost
message comes late): one about a later attempt waits for its opening, one about an earlier attempt is refused and
counted. A member that is not in a round, since it was lost or late, catches up when it closes. A member sends itself
what it sends to all, so that there is one path for everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fednet.api import Participant
from fednet.federated.floors import Floor
from nodes.blob_store import BlobStore
from nodes.capability import Handler
from nodes.compute import ComputeThread, ThreadProgress
from nodes.node import Node
from nodes.progress import progress_publisher
from nodes.rounds.catching_up import CatchUp
from nodes.rounds.checkpoints import CheckpointStore
from nodes.rounds.context import RoundContext
from nodes.rounds.leadership import Leadership
from nodes.rounds.leading import LeadingTerms
from nodes.rounds.links import MemberLinks
from nodes.rounds.part import RoundPart
from nodes.rounds.participation import ParticipationQueue
from nodes.rounds.revealed import RevealedSums
from nodes.rounds.worker import RoundWorker
from protocol.codec import Envelope
from protocol.election import Election
from protocol.machines.admission import records_in, refusal
from protocol.machines.attempt_values import RoundImpossible
from protocol.machines.failures import abort_message
from protocol.machines.signatory import Signatory
from protocol.machines.sizes import plan_objection
from protocol.messages import Capabilities, Message
from protocol.messages.election import MAX_RECORDS, LeaderAnnouncement, RecordRequest
from protocol.messages.presence import PeerInfo
from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import (
    ContributionAvailable,
    ContributionReceipt,
    FalseShard,
    ModelAdopted,
    RoundClose,
    RoundCommit,
    RoundDecline,
    RoundMessage,
    RoundOpen,
    RoundsAborted,
    RoundsRequest,
    RoundVote,
    ShardReduced,
)
from protocol.messages.secure_sum import (
    ConsistencyCheck,
    EncryptedShare,
    Equivocation,
    KeyAdvertisement,
    ShareDistribution,
    ShareReveal,
    SharesReceived,
)
from protocol.rounds import attempt_of
from protocol.topics import PROGRESS, ROUNDS

log = logging.getLogger(__name__)

NO_FLOOR = Floor()

TO_LEADER = (ContributionReceipt, Equivocation, ModelAdopted, RoundDecline)
TO_MEMBERS = (
    ContributionAvailable, RoundClose, ShardReduced, FalseShard,
    KeyAdvertisement, ShareDistribution, EncryptedShare, SharesReceived, ConsistencyCheck, ShareReveal,
)  # fmt: skip


class RoundService:
    """The rounds conversation at a member.

    Args:
        node: the node that takes part.
        compute: the thread of its device.
        reducer: the thread on which states are packed, checked and reduced.
        blob_store: what peers can fetch here, and what is fetched from them.
        folder: where checkpoints are kept; None keeps nothing on disk.
        floor: what this member asks of every round at least, whatever is requested.

    Attributes:
        store: this member's checkpoints.
        election: the leader and the members that are alive.
        capabilities: what the other members have said of themselves, also those that are gone.
        aborted: called when rounds are given up.
    """

    topics: tuple[str, ...] = (ROUNDS,)

    def __init__(
        self,
        node: Node,
        compute: ComputeThread,
        reducer: ComputeThread,
        blob_store: BlobStore,
        folder: Path | None,
        *,
        floor: Floor = NO_FLOOR,
    ) -> None:
        self._node, self._compute, self._reducer, self._blob_store = node, compute, reducer, blob_store
        self._floor, self._revealed = floor, RevealedSums(folder)
        self.store = CheckpointStore(folder)
        self.election = Election(node.name, node.spec.expected, self.store.term)
        self._signatory = Signatory(node, lambda: self.election.members)
        self._participation = ParticipationQueue(node)
        self._catching_up = CatchUp(self.election, partial(node.publish, PROGRESS))
        self._leading = LeadingTerms(
            node, self.election, self._signatory, self._publish, catching_up=self._catching_up, absent=self._absent,
            part_ended=self._participation.idle, check_shard=self._participation.check_shard,
        )  # fmt: skip
        self._leadership = Leadership(
            node, self.election, self.store, reducer, self._leading,
            tell=self._tell, leave=self._participation.leave, left=self._participation.ended,
        )  # fmt: skip
        self.capabilities: dict[str, str] = {}
        self.aborted: Callable[[RoundsAborted], object] = str
        self._links = MemberLinks()
        self._context: RoundContext | None = None
        self._dispatch: Mapping[type[Message], Callable[[str, Any], None]] = {
            RoundsRequest: self._request,
            RoundOpen: self._open,
            RoundCommit: self._commit,
            RoundsAborted: self._aborted,
            RecordRequest: self._send_records,
            RoundVote: self._vote,
            LeaderAnnouncement: self._announcement,
            **self._leadership.handlers,
            **dict.fromkeys(TO_MEMBERS, self._take_part),
            **dict.fromkeys(TO_LEADER, self._leading.receive),
        }
        self.handlers: Mapping[type[Message], Handler] = {
            **dict.fromkeys(self._dispatch, lambda envelope, message: self._receive(envelope.sender, message)),
            Capabilities: self._capabilities,
        }

    async def open(self, participant: Participant) -> None:
        """Takes part from now on; a participant is given the checkpoints of earlier incarnations.

        Raises:
            MethodError: it can no longer use them.
        """
        worker = RoundWorker(
            participant, self._compute, lambda: ThreadProgress(progress_publisher(self._node)), self.store.allocate
        )
        context = RoundContext(
            self._node.name, worker, self.store, self._blob_store, self._reducer,
            self._publish, self._tell, self._signatory, self._links, self._count_absent, self._revealed, self._floor,
        )  # fmt: skip
        await context.resume()
        self._context = context
        self._node.spawn(self._leadership.run(context), "rounds")

    def request(self, plan: RoundPlanMessage, sender: str) -> bool:
        """Queues a plan that a node has brought, or that this member has itself; False if too many wait already."""
        added = self._leading.requests.add(plan, sender)
        self._leading.requested()
        return added

    def close(self) -> None:
        """Takes no further part: work that is under way is stopped."""
        if self._context is not None:
            self._context.worker.stop()

    def linked(self, peer: PeerInfo) -> None:
        """A peer is linked; a member counts as alive once its capabilities say that it is ready, too."""
        self._links.linked(peer.name, peer.incarnation)
        self._arrived(peer.name)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """A peer is gone; if it led, another member takes over."""
        departure = f"{'left' if left else 'lost'}: {reason}"
        if self._links.departed(peer.name, departure):
            self.election.departed(peer.name)
        self._leading.departed(peer.name, departure)
        self._leadership.tick()

    def _capabilities(self, envelope: Envelope, capabilities: Capabilities) -> None:
        if capabilities.ready:
            self.capabilities[envelope.sender] = capabilities.text
            self._links.ready(envelope.sender, envelope.incarnation)
            self._arrived(envelope.sender)

    def _arrived(self, name: str) -> None:
        if self._links.is_ready(name) and name not in self.election.alive:  # it may say so again: nothing is new
            self.election.arrived(name)
            self._leadership.arrived(name)

    def _absent(self) -> dict[str, str]:
        """The configured members that are not alive, with the reason."""
        missing = (name for name in self.election.members if name not in self.election.alive)
        return {name: self._links.absence(name) for name in missing}

    def _count_absent(self) -> int:
        """How many configured members cannot be heard."""
        return len(self.election.members) - len(self.election.alive)

    def _receive(self, sender: str, message: Message) -> None:
        part = self._participation.current
        mine = None if part is None else (part.opened, part.leader)
        refused = refusal(self._signatory, self._node.name, sender, message, mine)
        if refused is None:
            for record in records_in(message):
                self.election.proven(record.term)
            self._dispatch[type(message)](sender, message)
        elif refused.is_fault:
            self._node.fault(sender, refused.kind, refused.reason)
        elif refused.reason:
            self._node.refused(refused.kind, refused.reason)
            self._node.on_refusal(sender, f"{refused.kind} {message.kind}", refused.reason)
        else:
            self._node.counts[refused.kind] += 1

    def _contained(self, sender: str, message: Message) -> None:
        """Takes in what has not just come from the bus: an early message, or this member's own."""
        with self._node.boundary.around(sender, message.kind):
            self._receive(sender, message)

    def _request(self, sender: str, request: RoundsRequest) -> None:
        """Queues a plan; the leader repeats the records that the requester has missed."""
        plan = request.plan
        if self.election.is_leader:
            held = (each for each in self.store.records_of(plan.key) if each.index > request.after)
            closed = [(each, 0) for each in held if not self._leading.in_progress(each)]
            self._node.repeat(sender, closed[:MAX_RECORDS])
        if self.store.forgotten(plan.key, request.after):
            self._refuse(sender, plan, "its rounds are over, and their records are no longer kept")
        elif too_large := plan_objection(plan):
            self._refuse(sender, plan, too_large)
        elif self.store.rounds_done(plan.key) < plan.rounds and not self.request(plan, sender):
            self._refuse(sender, plan, "too many plans are waiting")

    def _refuse(self, requester: str, plan: RoundPlanMessage, reason: str) -> None:
        self._node.on_refusal(requester, f"rounds {plan.task}", reason)
        if self.election.is_leader:
            self._node.tell(requester, abort_message(self.election.term, plan, RoundImpossible(reason, {})))

    def _announcement(self, sender: str, message: LeaderAnnouncement) -> None:
        """The leader has no round open for this member: if it is behind, it catches up."""
        if not self._leadership.follow(sender, message.term):
            return
        part = self._participation.current
        if part is not None and attempt_of(part.opened) > (message.term, message.attempt):
            return  # it was sent before the opening of the present attempt, and has come late
        if self._context is not None and sender != self._node.name:
            self._catch_up(self._context, sender, message.records)

    def _catch_up(
        self, context: RoundContext, leader: str, records: Mapping[str, RoundCommit], *, is_awaited: bool = False
    ) -> None:
        is_more = self._catching_up.aim(records, is_awaited=is_awaited)
        if is_more or not self._participation.catches_up:  # what is on its way is not begun anew
            self._participation.catch_up(partial(self._catching_up.run, context, leader), leader)

    def _open(self, sender: str, opened: RoundOpen) -> None:
        if not self._leadership.follow(sender, opened.term):
            self._node.counts["stale term"] += 1
        elif self._context is None:
            log.info("round %d of %s opens before this member is ready", opened.number, opened.model)
        elif self._node.name in opened.members and self._participation.is_later(opened):
            self._leading.requests.add(opened.plan, sender)
            for early in self._participation.join(RoundPart(self._context, opened, sender)):
                self._contained(*early)

    def _take_part(self, sender: str, message: RoundMessage) -> None:
        """A message about a round that this member takes part in; an early one waits, a late one is counted."""
        part = self._participation.part_in(message)
        if part is not None:
            self._leading.receive(sender, message)
            part.receive(sender, message)
        elif self._leading.leads_from_outside(message):
            self._leading.receive(sender, message)
        elif not self._participation.defer(sender, message):
            self._node.counts["stale round"] += 1
            if isinstance(message, ContributionAvailable):
                self._leading.refuse_stale(sender, message.number)

    def _vote(self, sender: str, vote: RoundVote) -> None:
        """A member's vote: the leader counts it, and whoever has voted alike keeps it."""
        if not self._signatory.has_signed(sender, vote, vote.signature):
            self._node.refused("unsigned vote", f"{sender} has not signed its vote in round {vote.number}")
            vote = vote.model_copy(update={"record": "0" * 64})  # it has voted, for no record that there is
        self.store.add_vote(sender, vote)
        self._leading.receive(sender, vote)

    def _commit(self, sender: str, commit: RoundCommit) -> None:
        """The record of the present round, of one that this member is not in, or one that it has asked for."""
        if self.store.learn(commit):
            self._catching_up.record_received.set()
            return
        if self._participation.is_outside(commit) and self._leadership.follow(sender, commit.term):
            if self._context is not None:  # else it is told again once this member is ready
                self._participation.settle(commit)
                self._catch_up(self._context, sender, {commit.model: commit}, is_awaited=True)
        else:
            self._take_part(sender, commit)
        if sender == self.election.leader and commit.index == commit.rounds:
            self._leading.requests.remove(commit.key)

    def _aborted(self, sender: str, aborted: RoundsAborted) -> None:
        if self._leadership.follow(sender, aborted.term):
            self._leading.requests.remove(aborted.key)
            self.aborted(aborted)

    def _send_records(self, sender: str, request: RecordRequest) -> None:
        """Sends what is missing; who asks whether this member holds a model is told by others what it does not hold."""
        if self._context is not None and not self._context.worker.holds(request.model):
            return
        self._node.repeat(sender, [(each, 0) for each in self.store.records_after(request.model, request.after)])

    def _publish(self, message: Message) -> None:
        self._node.publish(ROUNDS, message)
        asyncio.get_running_loop().call_soon(self._contained, self._node.name, message)

    def _tell(self, name: str, message: Message) -> None:
        if isinstance(message, RoundDecline):
            self._node.on_refusal(name, f"round of {message.model}", message.reason)
        elif isinstance(message, ContributionReceipt):
            self._node.on_refusal(message.contributor, f"contribution to {message.model}", message.refused)
        if name == self._node.name:
            asyncio.get_running_loop().call_soon(self._contained, name, message)
        else:
            self._node.tell(name, message)
