"""The role of somebody who only asks: it waits for the clients, does a method's job by asking, and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fednet.api import ExchangePlan, ExchangeRecord, Progress, Question, Replies, RoundPlan, RoundRecord
from fednet.methods import registry
from nodes.blob_store import BlobStore
from nodes.compute import Bridge, ComputeThread, ThreadProgress, run_until_stopped
from nodes.exchange.client import ExchangeClient
from nodes.node import Node
from nodes.peer_directory import PeerDirectory
from nodes.progress import ProgressListener, progress_publisher
from nodes.queries.client import QueryClient
from nodes.rounds.client import RoundsClient
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport

T = TypeVar("T")

Job = Callable[["BlockingNetwork", Progress], T]
"""What a guest does with the network; it reports its progress."""


@dataclass
class BlockingNetwork:
    """A `Network` of peers on the bus for a job on a thread of its own: every method blocks until it is over.

    Attributes:
        capabilities: what the clients said of themselves when all of them were ready.
        methods: the method that each of these clients runs, by name.
        bridge: leads to the event loop of the three clients.
        queries: asks.
        rounds: has rounds held.
        exchanges: has exchanges held.
        progress: is told how far rounds and exchanges are.
        participation: is told who took part.
    """

    capabilities: Mapping[str, str]
    methods: Mapping[str, str]
    bridge: Bridge
    queries: QueryClient
    rounds: RoundsClient
    exchanges: ExchangeClient
    progress: Progress
    participation: ParticipationNote

    def ask(self, question: Question) -> Replies:
        """Puts a question and waits for the replies."""
        replies = self.queries.ask_blocking(self.bridge, question)
        self.participation.answered(replies)
        return replies

    def require_models_held(self) -> None:
        """Waits until every site that is alive holds what the last round of every model has left.

        Raises:
            ModelsDiffer: some do not.
        """
        self.bridge.call(self.rounds.require_held)

    def run_rounds(self, plan: RoundPlan) -> tuple[RoundRecord, ...]:
        """Has rounds held and waits for their end."""
        return self.bridge.call(self.rounds.run_rounds, plan, self.progress, self.participation.closed)

    def exchange(self, call: ExchangePlan) -> ExchangeRecord:
        """Has an exchange held and waits for its end."""
        record = self.bridge.call(self.exchanges.exchange, call, self.progress)
        self.participation.exchanged(record)
        return record


async def run_guest(
    spec: NodeSpec,
    job: Job[T],
    stop: asyncio.Event,
    listener: ProgressListener | None = None,
    agree: Callable[[Mapping[str, str]], None] | None = None,
) -> T:
    """Joins a run, waits until its clients are ready, does a job on a thread of its own, and leaves.

    Args:
        spec: this guest.
        job: what it does.
        stop: ends it.
        listener: hears on the event loop how far the job is, beside everybody on the bus.
        agree: is given the announcements of all clients, on the job's thread, before they prepare; raises MethodError.

    Raises:
        MethodMismatch: the clients run another method than this guest's.
        PeersMissing: the clients were not ready in time.
        NoQuorum: too few were left while the job was being done.
        MethodError: the job cannot be done.
        Stopped: `stop` was set first.
    """
    node = Node(spec, ZmqTransport(keys=spec.keys))
    directory = PeerDirectory(node, spec.expected)
    query_client = QueryClient(node, directory, spec.policy)
    blobs = BlobStore(node)
    rounds_client = RoundsClient(node, directory, blobs)
    exchange_client = ExchangeClient(node, directory, spec.rounds)
    for capability in (directory, query_client, blobs, rounds_client, exchange_client):
        node.add(capability)
    participation, bridge = ParticipationNote(), Bridge()
    progress = ThreadProgress(progress_publisher(node, participation, listener))
    solver = ComputeThread(f"{spec.name}-solver")

    async def meet() -> dict[str, str]:
        """The clients' capabilities; before they are ready, `agree` is given what those announce that must agree."""
        complete = asyncio.ensure_future(directory.complete(spec.timing.ready))
        announced = asyncio.ensure_future(directory.announced())
        try:
            await asyncio.wait((complete, announced), return_when=asyncio.FIRST_COMPLETED)
            if agree is not None and announced.done():
                await solver.run(partial(agree, announced.result()))
            return await complete
        finally:
            complete.cancel()
            announced.cancel()

    try:
        async with node:
            capabilities = await run_until_stopped(stop, progress, asyncio.ensure_future(meet()))
            methods = directory.methods()
            network = BlockingNetwork(
                capabilities, methods, bridge, query_client, rounds_client, exchange_client, progress, participation
            )
            return await run_until_stopped(stop, progress, solver.run(lambda: job(network, progress)))
    finally:
        progress.stop()
        bridge.close()
        solver.close()
        await solver.ended()


async def run_driver(spec: NodeSpec, stop: asyncio.Event) -> None:
    """Does the job of the run's method; its results lie in the run's folder.

    Raises:
        ModelsDiffer: the job is done, and a site that is alive does not hold what the rounds have left.
    """

    def job(network: BlockingNetwork, progress: Progress) -> None:
        assert spec.config is not None  # noqa: S101 - a run's guest is never planned without
        registry.find(spec.method).job(spec.config, network, spec.folder, spec.seed, progress)
        network.require_models_held()

    def agree(announcements: Mapping[str, str]) -> None:
        registry.find(spec.method).agree(spec.config, announcements)

    await run_guest(spec, job, stop, agree=agree)


class ParticipationNote:
    """Who had a part in the last question, round or exchange, for those who watch: `a1 a2 a4 · lost a3`."""

    def __init__(self) -> None:
        self._text = ""

    def __call__(self) -> str:
        """The remark."""
        return self._text

    def answered(self, replies: Replies) -> None:
        """A question has been answered."""
        self._say(replies.by_node, replies.late, replies.lost)

    def closed(self, record: RoundRecord) -> None:
        """A round has closed."""
        self._say(record.weights, record.late, {**record.lost, **record.refused})

    def exchanged(self, record: ExchangeRecord) -> None:
        """An exchange is over."""
        self._say([name for name in record.offered if name not in record.lost], record.late, record.lost)

    def _say(self, there: Iterable[str], late: Collection[str], lost: Collection[str]) -> None:
        parts = [" ".join(there)]
        parts += [f"late {' '.join(late)}"] if late else []
        parts += [f"lost {' '.join(lost)}"] if lost else []
        self._text = " · ".join(parts)
