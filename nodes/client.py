"""The role of a site: it has data and a model, gets ready, and answers until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from fednet.conversations import Answerer, Site, Stopped, Watch
from nodes.catalog import METHODS
from nodes.compute import Compute, ThreadWatch, unless
from nodes.node import Node
from nodes.progress import speaker
from nodes.queries.answerer import Desk
from nodes.roster import Presenter
from nodes.spec import NodeSpec
from nodes.zmq_bus import ZmqBus

log = logging.getLogger(__name__)


async def client(spec: NodeSpec, stop: asyncio.Event) -> None:
    """Runs a client until `stop` is set.

    Raises:
        MethodError: it could not get ready (its data, its model or its configuration are at fault).
    """
    compute = Compute(f"{spec.name}-model")
    node = Node(spec, ZmqBus())
    desk, presenter = Desk(node, compute), Presenter(node)
    node.add(desk)
    node.add(presenter)
    watch = ThreadWatch(speaker(node))
    site = Site(spec.name, spec.index, spec.count, spec.seed, spec.device, spec.folder)
    try:
        async with node:
            assert spec.config is not None  # noqa: S101 - a client is never planned without
            make = partial(METHODS[spec.method].agent, spec.config, site, spec.site)
            agent, card = await unless(stop, watch, compute.run(lambda: _prepared(make, watch)))
            desk.open(agent)
            presenter.show(card)
            await stop.wait()
    except Stopped:
        log.info("%s was stopped before it was ready", spec.name)
    finally:
        watch.stop()
        compute.close()
        await compute.ended()


def _prepared(make: Callable[[], Answerer], watch: Watch) -> tuple[Answerer, str]:
    """On the device's thread, since making an agent may read its data: the agent, ready to answer, and its card."""
    agent = make()
    return agent, agent.prepare(watch)
