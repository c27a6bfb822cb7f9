"""Listens to a run and tells what happens in it: who is there, who is lost, how far everybody is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nodes.capability import Handler
from nodes.node import Node
from nodes.retransmission import REPAIR_WARNING
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport
from protocol.codec import Envelope
from protocol.messages import Capabilities, Message, ProgressReport
from protocol.messages.presence import Heartbeat, PeerInfo
from protocol.messages.progress import QUARANTINE
from protocol.security.budget import Budget, Cost
from protocol.topics import PRESENCE, PROGRESS

EVENT_BYTES = 160
"""Bytes of an event beside what its peer has said."""

EventKind = Literal["joined", "lost", "left", "ready", "progress", "repair", "clock", "quarantine"]


@dataclass(frozen=True)
class RunEvent:
    """Something that happened in a run.

    Attributes:
        time: seconds since the epoch.
        node: the node it happened to.
        kind: what happened; `repair`: too much of what this node says is heard here by retransmission only; `clock`:
            its clock differs from this machine's; `quarantine`: it has barred a peer.
        data: for `progress` phase, done, total, values and note; for `lost` and `left` the reason; for `joined`
            role and address; for `repair` the share, in (0, 1]; for `clock` by how many seconds it is ahead; for
            `quarantine` the note, which names the peer, for how long, and why.
    """

    time: float
    node: str
    kind: EventKind
    data: dict[str, Any] = field(default_factory=dict)


class Monitor:
    """A node that only listens, and hands every event to `tell`."""

    topics: tuple[str, ...] = (PRESENCE, PROGRESS)

    def __init__(self, spec: NodeSpec, tell: Callable[[RunEvent], None]) -> None:
        self.node = Node(spec, ZmqTransport(keys=spec.keys))
        self._tell = tell
        self._told = Budget()
        self._repaired: set[str] = set()
        self._differing: set[str] = set()
        self.handlers: Mapping[type[Message], Handler] = {
            Capabilities: self._card,
            ProgressReport: self._progress,
            Heartbeat: self._heartbeat,
        }
        self.node.add(self)

    @property
    def address(self) -> str:
        """Where it can be joined, once it listens."""
        return self.node.address

    async def __aenter__(self) -> Monitor:
        """Begins to listen."""
        await self.node.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        """Listens no more."""
        await self.node.__aexit__(*error)

    def linked(self, peer: PeerInfo) -> None:
        """A node takes part."""
        self._repaired.discard(peer.name)
        self._differing.discard(peer.name)
        self._say(peer.name, "joined", role=peer.role, address=peer.address)

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """A node takes part no more."""
        self._say(peer.name, "left" if left else "lost", reason=reason)

    def _card(self, envelope: Envelope, card: Capabilities) -> None:
        if card.ready and self._may_tell(envelope.sender):
            self._say(envelope.sender, "ready")

    def _progress(self, envelope: Envelope, progress: ProgressReport) -> None:
        data = progress.model_dump()
        if not self._may_tell(envelope.sender, data):
            return
        if progress.phase == QUARANTINE:
            self._say(envelope.sender, "quarantine", note=progress.note)
        else:
            self._say(envelope.sender, "progress", **data)

    def _may_tell(self, sender: str, data: Mapping[str, Any] | None = None) -> bool:
        """Whether something that a peer has said is told: what is beyond its budget is not."""
        size = EVENT_BYTES + len(json.dumps(data))
        return self._told.charge(sender, Cost.REPORTS, size, asyncio.get_running_loop().time())

    def _heartbeat(self, envelope: Envelope, _beat: Heartbeat) -> None:
        share = self.node.repair_share(envelope.sender)
        if share > REPAIR_WARNING and envelope.sender not in self._repaired:
            self._repaired.add(envelope.sender)
            self._say(envelope.sender, "repair", share=share)
        ahead = self.node.clock_ahead(envelope.sender)
        if ahead and envelope.sender not in self._differing:
            self._differing.add(envelope.sender)
            self._say(envelope.sender, "clock", ahead=ahead)

    def _say(self, node: str, kind: EventKind, **data: Any) -> None:
        self._tell(RunEvent(time.time(), node, kind, data))
