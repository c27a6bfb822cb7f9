"""The role of a site: it has data and a model, gets ready, answers, takes part in rounds and exchanges."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fednet.api import Exchanger, Participant, Progress, Responder, SiteContext, Stopped
from fednet.errors import MethodError
from fednet.federated.floors import floor_of
from fednet.methods import registry
from fednet.methods.contract import Announcer
from nodes.blob_store import BlobStore
from nodes.compute import ComputeThread, ThreadProgress, run_until_stopped
from nodes.exchange.peer import ExchangePeer
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.progress import progress_publisher
from nodes.queries.responder import QueryResponder
from nodes.rounds.service import RoundService
from nodes.spec import NodeSpec
from nodes.trail import Trail, TrailedExchanger, TrailedParticipant, trail_file
from nodes.transport.zmq import ZmqTransport

log = logging.getLogger(__name__)

CLOSED_ROUNDS = "checkpoints"
"""In a run's folder: what closed rounds have left."""

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
    directory = PeerDirectory(node, tuple(name for name in spec.expected if name != spec.name))
    assert spec.config is not None  # noqa: S101 - a client is never planned without
    closed = _closed_rounds(spec)
    round_service = RoundService(node, compute, reducer, blobs, closed, floor=floor_of(spec.config))
    exchange_peer = ExchangePeer(node, compute)
    trail = Trail(trail_file(spec.folder, spec.name), spec.name, spec.keys, closed)
    node.on_refusal, node.on_fault = trail.refused, trail.fault
    for capability in (trail, query_responder, capability_publisher, directory, blobs, round_service, exchange_peer):
        node.add(capability)
    progress = ThreadProgress(progress_publisher(node))
    method = registry.find(spec.method)
    site = SiteContext(spec.name, spec.index, spec.count, spec.seed, spec.device, spec.folder)
    try:
        async with node:
            make = make or partial(method.site, spec.config, site, spec.site)
            agent = await run_until_stopped(stop, progress, compute.run(make))
            if isinstance(agent, Announcer):
                statements = _Statements(spec.name, capability_publisher, directory)
                agreeing = _agree(agent, compute, statements, progress)
                await run_until_stopped(stop, progress, asyncio.ensure_future(agreeing))
            trail.begin(agent)
            card = await run_until_stopped(stop, progress, compute.run(partial(agent.prepare, progress)))
            query_responder.open(agent, method.questions)
            if isinstance(agent, Participant):
                await round_service.open(TrailedParticipant(agent, trail))
            await exchange_peer.open(TrailedExchanger(agent, trail) if isinstance(agent, Exchanger) else agent)
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
        trail.end()


def _closed_rounds(spec: NodeSpec) -> Path:
    """Where a site keeps what closed rounds have left: another configuration begins anew, beside it."""
    assert spec.config is not None  # noqa: S101 - a client is never planned without
    settings = "\n".join([spec.config.model_dump_json(), str(spec.seed), *spec.expected])
    return spec.folder / CLOSED_ROUNDS / f"{spec.name}-rounds-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class _Statements:
    """What a client says of itself, and what the others say."""

    name: str
    own: CapabilityPublisher
    of_others: PeerDirectory


async def _agree(site: Announcer, compute: ComputeThread, statements: _Statements, progress: Progress) -> None:
    """Announces, waits for every other site's announcement, and agrees; a restarted site on what the others have.

    Raises:
        MethodError: the sites do not fit each other, or this one is not what it was when the others agreed.
    """
    name, directory = statements.name, statements.of_others
    own = await compute.run(site.announce)
    statements.own.announce(own)
    others = await directory.announced(partial(progress.report, "waiting for the other sites"))
    announcements = dict(sorted({**others, name: own}.items()))
    await compute.run(partial(site.agree, announcements))
    agreement = hashlib.sha256(json.dumps(announcements).encode()).hexdigest()
    if differing := directory.other_agreements(agreement):
        raise MethodError(
            f"{name}: this run began with other classes, or with images of another shape, as {', '.join(differing)} "
            f"say: the data of {name}, or of another site that was restarted, is no longer what it was; put it back, "
            "or start the run anew"
        )
    statements.own.agree(agreement)
