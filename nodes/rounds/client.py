"""Requests rounds and follows them to their end, as a driver that takes no part in them.

A request is repeated until its rounds are over, since the leader that received it may be gone; repeating it does no
harm. In the end it can ask every client for the record of the last round, which only those have that hold its model.
Knows nothing of who leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import ValidationError

from fednet.api import Progress, RoundPlan, RoundRecord
from fednet.errors import MethodError
from fednet.federated.packed_state import PackedState
from nodes.blob_store import Blob, BlobStore
from nodes.capability import Handler
from nodes.errors import ModelsDiffer, NoQuorum
from nodes.node import Node
from nodes.peer_directory import PeerDirectory
from protocol.codec import Envelope
from protocol.machines.signatory import Signatory
from protocol.messages import Message
from protocol.messages.election import RecordRequest
from protocol.messages.presence import PeerInfo
from protocol.messages.round_values import BlobRef, RoundPlanMessage
from protocol.messages.rounds import RoundCommit, RoundsAborted, RoundsRequest
from protocol.topics import ROUNDS

REQUEST_INTERVAL = 0.5
"""Seconds between two requests for rounds that are not over."""

HELD_TIMEOUT = 30.0
"""Seconds for which clients may still be behind once the rounds are over."""

QUORUM_TIMEOUT = 10.0
"""Seconds for which fewer than a majority of the run's clients may be ready before the rounds are given up."""

RoundListener = Callable[[RoundRecord | Exception], None]
"""Takes the record of every round that closes, in order, or the reason why no more will."""


@dataclass
class _PendingRounds:
    """A plan that is being followed.

    Attributes:
        plan: the plan.
        listener: takes its records.
        commits: that have come, by their place in the plan.
        reported: how many of them the listener has been given, from the first on.
        no_quorum_since: since when too few clients are ready; None while enough are.
    """

    plan: RoundPlanMessage
    listener: RoundListener
    commits: dict[int, RoundCommit] = field(default_factory=dict)
    reported: int = 0
    no_quorum_since: float | None = None


class RoundsClient:
    """The requesting side of the rounds conversation.

    Args:
        node: the node that requests.
        peers: the clients that could take part.
        blob_store: offers a model that is given.
    """

    topics: tuple[str, ...] = ()

    def __init__(self, node: Node, peers: PeerDirectory, blob_store: BlobStore) -> None:
        self._node = node
        self._peers = peers
        self._blob_store = blob_store
        self._signatory = Signatory(node, peers.members)
        self._pending: dict[str, _PendingRounds] = {}
        self._latest: dict[str, RoundCommit] = {}  # by model
        self._held: dict[str, dict[str, str]] = {}  # by model and client, the outcome that it has of that round
        self._asking = False
        self._answered = asyncio.Event()
        self.handlers: Mapping[type[Message], Handler] = {RoundCommit: self._commit, RoundsAborted: self._aborted}

    async def run_rounds(
        self,
        plan: RoundPlan,
        progress: Progress | None = None,
        on_record: Callable[[RoundRecord], None] | None = None,
    ) -> tuple[RoundRecord, ...]:
        """Has rounds held and waits for their records.

        Args:
            plan: the rounds.
            progress: is told of every round that has closed, with its values.
            on_record: gets every round's record as soon as it has closed, before `progress` is told.

        Raises:
            MethodError: they cannot be held.
            NoQuorum: too few clients are ready.
        """
        results: asyncio.Queue[RoundRecord | Exception] = asyncio.Queue()
        message, packed = to_plan_message(plan, self._node.name)
        self._start(message, packed, results.put_nowait)
        records: list[RoundRecord] = []
        try:
            while len(records) < plan.rounds:
                records.append(record := _result_or_raise(await results.get()))
                if on_record is not None:
                    on_record(record)
                if progress is not None:
                    progress.report(f"{plan.model} rounds", len(records), plan.rounds, **_weighted_means(record))
        finally:
            self._forget(plan.key)
        return tuple(records)

    async def require_held(self) -> None:
        """Waits until every client that is ready holds what the last round of every model has left.

        Raises:
            ModelsDiffer: some are still behind after `HELD_TIMEOUT` seconds.
        """
        loop = asyncio.get_running_loop()
        until, self._asking = loop.time() + HELD_TIMEOUT, True
        while lacking := self._lacking():
            if loop.time() >= until:
                raise ModelsDiffer(lacking)
            self._answered.clear()
            for name, models in lacking.items():
                for model in models:
                    self._node.tell(name, RecordRequest(model=model, after=self._latest[model].number - 1))
            with suppress(TimeoutError):
                async with asyncio.timeout(REQUEST_INTERVAL):
                    await self._answered.wait()

    def _lacking(self) -> dict[str, tuple[str, ...]]:
        """The clients that are ready and are not known to hold a last outcome, with the models."""
        lacking: dict[str, tuple[str, ...]] = {}
        for model, latest in sorted(self._latest.items()):
            for name in self._peers.ready():
                if self._held[model].get(name) != latest.outcome.digest:
                    lacking[name] = (*lacking.get(name, ()), model)
        return lacking

    def linked(self, peer: PeerInfo) -> None:
        """Nothing to do: requests are repeated."""

    def departed(self, peer: PeerInfo, reason: str, *, left: bool) -> None:
        """Nothing to do: it is noticed when requests are repeated."""

    def _start(self, plan: RoundPlanMessage, packed: PackedState | None, listener: RoundListener) -> None:
        if plan.given is not None and packed is not None:
            self._blob_store.keep(Blob(packed.tree, packed.bytes_at))
        self._pending[plan.key] = _PendingRounds(plan, listener)
        self._request(plan.key)

    def _request(self, key: str) -> None:
        pending = self._pending.get(key)
        if pending is None:
            return
        if (error := self._no_quorum(pending)) is not None:
            self._end(key, error)
            return
        self._node.publish(ROUNDS, RoundsRequest(plan=pending.plan, after=pending.reported))
        asyncio.get_running_loop().call_later(REQUEST_INTERVAL, self._request, key)

    def _no_quorum(self, pending: _PendingRounds) -> NoQuorum | None:
        """Why the rounds are given up, when too few clients have been ready for too long."""
        now, ready = asyncio.get_running_loop().time(), tuple(self._peers.ready())
        needed = len(self._node.spec.expected) // 2 + 1
        if len(ready) >= needed:
            pending.no_quorum_since = None
        elif pending.no_quorum_since is None:
            pending.no_quorum_since = now
        elif now > pending.no_quorum_since + QUORUM_TIMEOUT:
            return NoQuorum(ready, needed, self._peers.missing())
        return None

    def _commit(self, envelope: Envelope, commit: RoundCommit) -> None:
        if not self._signatory.is_certified(commit):
            self._node.refused("uncertified", f"a record from {envelope.sender} without the votes of a majority")
            return
        self._confirm(envelope.sender, commit)
        pending = self._pending.get(commit.key)
        if pending is None or commit.index in pending.commits or commit.index > pending.plan.rounds:
            return
        pending.commits[commit.index] = commit
        while (following := pending.commits.get(pending.reported + 1)) is not None:
            pending.reported += 1
            pending.listener(to_round_record(following))
        if pending.reported == pending.plan.rounds:
            self._forget(commit.key)

    def _confirm(self, client: str, commit: RoundCommit) -> None:
        """A client has the record of a round; whoever sends it when asked holds its outcome."""
        latest = self._latest.get(commit.model)
        if commit.key in self._pending and (latest is None or commit.number > latest.number):
            self._latest[commit.model], self._held[commit.model] = commit, {}
        elif latest is None or commit.number != latest.number:
            return
        if self._asking:  # not as the leader tells of a round, which others have adopted
            self._held[commit.model][client] = commit.outcome.digest
            self._answered.set()

    def _aborted(self, envelope: Envelope, aborted: RoundsAborted) -> None:
        pending = self._pending.get(aborted.key)
        if pending is not None:
            lost = "; ".join(f"{name} {reason}" for name, reason in sorted(aborted.lost.items()))
            text = f"the rounds of {pending.plan.model} cannot continue: {aborted.reason}"
            self._end(aborted.key, MethodError(f"{text} ({lost})" if lost else text))

    def _end(self, key: str, error: Exception) -> None:
        self._pending[key].listener(error)
        self._forget(key)

    def _forget(self, key: str) -> None:
        pending = self._pending.pop(key, None)
        if pending is not None and pending.plan.given is not None:
            self._blob_store.drop(pending.plan.given.digest)


def to_plan_message(plan: RoundPlan, requester: str) -> tuple[RoundPlanMessage, PackedState | None]:
    """A plan as it is requested, and the model that it gives.

    Raises:
        MethodError: it cannot be requested, and why.
    """
    if plan.replacement is not None and plan.rounds != 1:
        raise MethodError(f"plan {plan.key!r} gives a model in {plan.rounds} rounds: give it in one")
    packed, given = None, None
    if plan.replacement is not None:
        packed = PackedState.of(plan.replacement)
        given = BlobRef(digest=packed.tree.root, size=packed.tree.size)
    try:
        message = RoundPlanMessage(
            key=plan.key,
            requester=requester,
            model=plan.model,
            task=plan.task,
            rounds=plan.rounds,
            federation=plan.federation.model_dump_json(),
            options=dict(plan.options),
            given=given,
        )
    except ValidationError as error:
        raise MethodError(f"plan {plan.key!r} cannot be requested: {error}") from error
    return message, packed


def to_round_record(commit: RoundCommit) -> RoundRecord:
    """The record of a round, as a method sees it."""
    return RoundRecord(
        number=commit.number,
        model=commit.model,
        weights=dict(sorted(commit.weights.items())),
        values={name: dict(values) for name, values in sorted(commit.values.items())},
        late=commit.late,
        lost=dict(commit.lost),
        refused={**commit.refused, **commit.remarks},
        digest=commit.outcome.digest,
        seconds=commit.seconds,
        leader=commit.leader,
    )


def _result_or_raise(result: RoundRecord | Exception) -> RoundRecord:
    if isinstance(result, Exception):
        raise result
    return result


def _weighted_means(record: RoundRecord) -> dict[str, float]:
    """The values of a round, averaged over its contributors by weight."""
    averages = {}
    for name in sorted({value for values in record.values.values() for value in values}):
        pairs = [(record.weights[node], values[name]) for node, values in record.values.items() if name in values]
        averages[name] = sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs)
    return {**averages, "contributed": float(len(record.weights))}
