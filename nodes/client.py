"""The role of a site: it has data and a model, gets ready, answers, takes part in rounds and exchanges."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fednet.conversations import Answerer, Participant, Site, Stopped, Watch
from fednet.federated.config import wants_secure
from nodes.catalog import METHODS
from nodes.compute import Compute, ThreadWatch, unless
from nodes.exchange.stall import Stall
from nodes.node import Node
from nodes.progress import speaker
from nodes.queries.answerer import Desk
from nodes.roster import Presenter
from nodes.rounds.assembly import Assembly
from nodes.spec import NodeSpec
from nodes.transfers import Depot
from nodes.zmq_bus import ZmqBus

log = logging.getLogger(__name__)


async def client(spec: NodeSpec, stop: asyncio.Event) -> None:
    """Runs a client until `stop` is set.

    Raises:
        MethodError: it could not get ready (its data, its model or its configuration are at fault).
    """
    compute, reducer = Compute(f"{spec.name}-model"), Compute(f"{spec.name}-reducer")
    node = Node(spec, ZmqBus(keys=spec.keys))
    desk, presenter, depot = Desk(node, compute), Presenter(node), Depot(node)
    assert spec.config is not None  # noqa: S101 - a client is never planned without
    assembly = Assembly(node, compute, reducer, depot, _closed_rounds(spec), sealed=wants_secure(spec.config))
    stall = Stall(node, compute)
    for capability in (desk, presenter, depot, assembly, stall):
        node.add(capability)
    watch = ThreadWatch(speaker(node))
    site = Site(spec.name, spec.index, spec.count, spec.seed, spec.device, spec.folder)
    try:
        async with node:
            make = partial(METHODS[spec.method].agent, spec.config, site, spec.site)
            agent, card = await unless(stop, watch, compute.run(lambda: _prepared(make, watch)))
            desk.open(agent)
            if isinstance(agent, Participant):
                await assembly.open(agent)
            await stall.open(agent)
            presenter.show(card)
            await stop.wait()
    except Stopped:
        log.info("%s was stopped before it was ready", spec.name)
    finally:
        watch.stop()
        assembly.close()
        stall.close()
        for thread in (compute, reducer):
            thread.close()
            await thread.ended()


def _closed_rounds(spec: NodeSpec) -> Path:
    """Where a site keeps what closed rounds have left: another configuration begins anew, beside it."""
    assert spec.config is not None  # noqa: S101 - a client is never planned without
    said = "\n".join([spec.config.model_dump_json(), str(spec.seed), *spec.expected])
    return spec.folder / "checkpoints" / f"{spec.name}-rounds-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _prepared(make: Callable[[], Answerer], watch: Watch) -> tuple[Answerer, str]:
    """On the device's thread, since making an agent may read its data: the agent, ready to answer, and its card."""
    agent = make()
    return agent, agent.prepare(watch)
