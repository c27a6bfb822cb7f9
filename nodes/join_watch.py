"""Says why nobody answers at the addresses that a node joins through, and gives up after `timing.ready`.

ZeroMQ connects again and again, silently: a name that cannot be resolved, a port where nobody listens, another version
of the wire and other keys all look alike, as nothing. Whoever is linked with nobody after a moment has each address
looked at (`nodes.transport.probe`), and what is in the way is logged once. Knows no roles.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from nodes.errors import PeersMissing
from nodes.spec import NodeSpec
from nodes.transport.probe import ProbeResult, probe, reach
from protocol.clocks import MAX_CLOCK_SKEW, clock_remark
from protocol.topics import inward_address, split_endpoint

log = logging.getLogger(__name__)

FIRST_LOOK = 1.5
"""Seconds until the first look: whoever is there answers sooner."""

NEXT_LOOK = 10.0
"""Seconds between two looks."""

STEP = 1.0
"""Seconds for each step of a look: with `FIRST_LOOK`, what is in the way is said within five."""

LOOK_LIMIT = 3.0
"""Seconds for a whole look; resolving a name may take longer."""


async def watch(spec: NodeSpec, linked: Callable[[], bool]) -> None:
    """Looks until somebody is linked.

    Args:
        spec: the node: its addresses to join through, its run and keys, and its patience.
        linked: whether it is linked with anybody.

    Raises:
        PeersMissing: nobody was, for `timing.ready` seconds.
    """
    reasons: dict[str, str] = {}
    loop, endpoints = asyncio.get_running_loop(), tuple(dict.fromkeys((*filter(None, [spec.through]), *spec.join)))
    deadline, pause = loop.time() + spec.timing.ready, FIRST_LOOK
    while True:
        await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
        if linked():
            return
        over = loop.time() >= deadline
        if not (over and reasons):  # at the end nothing more is looked at: others who wait as long would give up first
            found = await asyncio.gather(*(_look(spec, endpoint) for endpoint in endpoints))
            _say_what_is_new(reasons, dict(zip(endpoints, found, strict=True)), linked, spec.timing.ready)
        if over and not linked():
            raise PeersMissing(reasons, spec.timing.ready)
        pause = NEXT_LOOK


def _say_what_is_new(said: dict[str, str], found: dict[str, str], linked: Callable[[], bool], patience: float) -> None:
    for endpoint, about in found.items():
        if not linked() and said.get(endpoint) != about:
            said[endpoint] = about
            log.warning("%s: %s; this node gives up after %.0f s (`bus.timing.ready`)", endpoint, about, patience)


async def _look(spec: NodeSpec, endpoint: str) -> str:
    name, address = split_endpoint(endpoint)
    try:
        async with asyncio.timeout(LOOK_LIMIT):
            if endpoint == spec.through and (trouble := await asyncio.to_thread(reach, inward_address(address), STEP)):
                return f"{trouble.about}: the relay must be up for this node to be heard"
            found = await asyncio.to_thread(probe, name, address, spec.run, spec.keys, STEP, me=spec.name)
    except TimeoutError:
        found = ProbeResult("unreachable", "no answer; its name may be slow to resolve")
    if found.state != "heard":
        return found.about
    about = "it is heard, and has not welcomed this node yet"
    return f"{about}; its clock: {clock_remark(found.ahead)}" if abs(found.ahead) > MAX_CLOCK_SKEW else about
