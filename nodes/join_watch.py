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
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + spec.timing.ready, FIRST_LOOK
    while True:
        await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
        if linked():
            return
        for endpoint in dict.fromkeys((*filter(None, [spec.through]), *spec.join)):
            about = await _look(spec, endpoint)
            if not linked() and reasons.get(endpoint) != about:
                reasons[endpoint] = about
                log.warning("%s: %s", endpoint, about)
        if loop.time() >= deadline and not linked():
            raise PeersMissing(reasons, spec.timing.ready)
        pause = NEXT_LOOK


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
