"""The role of a site: it has data and a model, gets ready, answers, takes part in rounds and exchanges."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

from fednet.api import Participant, Progress, Responder, SiteContext, Stopped
from fednet.federated.config import wants_secure
from fednet.methods import registry
from nodes.blob_store import BlobStore
from nodes.compute import ComputeThread, ThreadProgress, run_until_stopped
from nodes.exchange.peer import ExchangePeer
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher
from nodes.progress import progress_publisher
from nodes.queries.responder import QueryResponder
from nodes.rounds.service import RoundService
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport

log = logging.getLogger(__name__)

SiteFactory = Callable[[], Responder]

SiteWork = Callable[[RoundService, CapabilityPublisher], Coroutine[None, None, None]]
"""What a client does by itself, with its part in the rounds and its own description."""


async def run_client(
    spec: NodeSpec, stop: asyncio.Event, make: SiteFactory | None = None, work: SiteWork | None = None
) -> None:
    """Runs a client until `stop` is set.

    Args:
        spec: the client.
        stop: ends it.
        make: makes the side that holds data and a model; None: that of its method.
        work: done once it is ready; its end ends the client, too.

    Raises:
        MethodError: it could not get ready (its data, its model or its configuration are at fault).
    """
    compute, reducer = ComputeThread(f"{spec.name}-model"), ComputeThread(f"{spec.name}-reducer")
    node = Node(spec, ZmqTransport(keys=spec.keys))
    query_responder, capability_publisher, blobs = (
        QueryResponder(node, compute),
        CapabilityPublisher(node),
        BlobStore(node),
    )
    assert spec.config is not None  # noqa: S101 - a client is never planned without
    round_service = RoundService(
        node, compute, reducer, blobs, _closed_rounds(spec), secure_only=wants_secure(spec.config)
    )
    exchange_peer = ExchangePeer(node, compute)
    for capability in (query_responder, capability_publisher, blobs, round_service, exchange_peer):
        node.add(capability)
    progress = ThreadProgress(progress_publisher(node))
    site = SiteContext(spec.name, spec.index, spec.count, spec.seed, spec.device, spec.folder)
    try:
        async with node:
            make = make or partial(registry.find(spec.method).site, spec.config, site, spec.site)
            agent, card = await run_until_stopped(stop, progress, compute.run(lambda: _prepared(make, progress)))
            query_responder.open(agent)
            if isinstance(agent, Participant):
                await round_service.open(agent)
            await exchange_peer.open(agent)
            capability_publisher.show(card)
            if work is None:
                await stop.wait()
            else:
                await run_until_stopped(
                    stop, progress, asyncio.ensure_future(work(round_service, capability_publisher))
                )
    except Stopped:
        log.info("%s was stopped", spec.name)
    finally:
        progress.stop()
        round_service.close()
        exchange_peer.close()
        for thread in (compute, reducer):
            thread.close()
            await thread.ended()


def _closed_rounds(spec: NodeSpec) -> Path:
    """Where a site keeps what closed rounds have left: another configuration begins anew, beside it."""
    assert spec.config is not None  # noqa: S101 - a client is never planned without
    settings = "\n".join([spec.config.model_dump_json(), str(spec.seed), *spec.expected])
    return spec.folder / "checkpoints" / f"{spec.name}-rounds-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def _prepared(make: Callable[[], Responder], progress: Progress) -> tuple[Responder, str]:
    """On the device's thread, since making an agent may read its data: the agent, ready to answer, and its card."""
    agent = make()
    return agent, agent.prepare(progress)
