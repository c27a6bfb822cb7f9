"""The role of somebody who only asks: it waits for the clients, does a method's job by asking, and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fednet.api import Ask, ExchangePlan, ExchangeRecord, Network, Progress, Question, Replies, RoundPlan, RoundRecord
from fednet.methods import registry
from nodes.blob_store import BlobStore
from nodes.compute import ComputeThread, ThreadProgress, run_until_stopped
from nodes.exchange.client import ExchangeClient
from nodes.node import Node
from nodes.peer_directory import PeerDirectory
from nodes.progress import ProgressListener, progress_publisher
from nodes.queries.client import QueryClient
from nodes.rounds.client import RoundsClient
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport

T = TypeVar("T")

Job = Callable[[Network, Progress], T]
"""What a guest does: it gets the network and a watch."""

RunRounds = Callable[[RoundPlan], tuple[RoundRecord, ...]]

RunExchange = Callable[[ExchangePlan], ExchangeRecord]


@dataclass
class BusNetwork:
    """A `Network` whose other sides are peers on the bus; for a job on a thread of its own.

    Attributes:
        capabilities: the clients' cards as they were when all of them were ready.
        asks: puts a question and blocks until its replies are there.
        convenes: has rounds held and blocks until they are over.
        trades: has an exchange held and blocks until it is over.
    """

    capabilities: Mapping[str, str]
    asks: Ask
    runs_rounds: RunRounds
    runs_exchange: RunExchange

    def ask(self, question: Question) -> Replies:
        """Puts a question and waits for the replies."""
        return self.asks(question)

    def run_rounds(self, programme: RoundPlan) -> tuple[RoundRecord, ...]:
        """Has rounds held and waits for their end."""
        return self.runs_rounds(programme)

    def exchange(self, call: ExchangePlan) -> ExchangeRecord:
        """Has an exchange held and waits for its end."""
        return self.runs_exchange(call)


async def run_guest(spec: NodeSpec, job: Job[T], stop: asyncio.Event, told: ProgressListener | None = None) -> T:
    """Joins a run, waits until its clients are ready, does a job on a thread of its own, and leaves.

    Args:
        spec: this guest.
        job: what it does.
        stop: ends it.
        told: hears on the event loop how far the job is, beside everybody on the bus.

    Raises:
        OtherMethod: the clients run another method than this guest's.
        PeersMissing: the clients were not ready in time.
        NoQuorum: too few were left while the job was being done.
        MethodError: the job cannot be done.
        Stopped: `stop` was set first.
    """
    node = Node(spec, ZmqTransport(keys=spec.keys))
    roster = PeerDirectory(node, spec.expected)
    asker = QueryClient(node, roster, spec.policy)
    depot = BlobStore(node)
    convener = RoundsClient(node, roster, depot)
    caller = ExchangeClient(node, roster, spec.rounds)
    for capability in (roster, asker, depot, convener, caller):
        node.add(capability)
    remark = ParticipationNote()
    progress = ThreadProgress(progress_publisher(node, remark, told))
    solver = ComputeThread(f"{spec.name}-solver")
    try:
        async with node:
            capabilities = await run_until_stopped(
                stop, progress, asyncio.ensure_future(roster.complete(spec.timing.ready))
            )
            network = BusNetwork(
                capabilities,
                remark.listen(asker.from_thread()),
                convener.from_thread(progress, remark.closed),
                caller.from_thread(progress, remark.exchanged),
            )
            return await run_until_stopped(stop, progress, solver.run(lambda: job(network, progress)))
    finally:
        progress.stop()
        asker.close()
        convener.close()
        caller.close()
        solver.close()
        await solver.ended()


async def run_driver(spec: NodeSpec, stop: asyncio.Event) -> None:
    """Does the job of the run's method; its results lie in the run's folder."""

    def job(network: Network, progress: Progress) -> None:
        assert spec.config is not None  # noqa: S101 - a run's guest is never planned without
        registry.find(spec.method).job(spec.config, network, spec.folder, spec.seed, progress)

    await run_guest(spec, job, stop)


class ParticipationNote:
    """Who had a part in the last question, round or exchange, for those who watch: `a1 a2 a4 · lost a3`."""

    def __init__(self) -> None:
        self._text = ""

    def __call__(self) -> str:
        """The remark."""
        return self._text

    def closed(self, record: RoundRecord) -> None:
        """A round has closed."""
        self._say(record.weights, record.late, {**record.lost, **record.refused})

    def exchanged(self, record: ExchangeRecord) -> None:
        """An exchange is over."""
        self._say([name for name in record.offered if name not in record.lost], record.late, record.lost)

    def listen(self, ask: Ask) -> Ask:
        """The same ask, listened to."""

        def heard(question: Question) -> Replies:
            replies = ask(question)
            self._say(replies.by_node, replies.late, replies.lost)
            return replies

        return heard

    def _say(self, there: Iterable[str], late: Collection[str], lost: Collection[str]) -> None:
        parts = [" ".join(there)]
        parts += [f"late {' '.join(late)}"] if late else []
        parts += [f"lost {' '.join(lost)}"] if lost else []
        self._text = " · ".join(parts)
