"""Who is linked, ready and absent; a wait for links ends with them, or names who is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nodes.errors import PeersMissing
from nodes.rounds.links import LINK_TIMEOUT, MemberLinks


def test_a_member_is_alive_once_this_incarnation_of_it_is_linked_and_ready() -> None:
    links = MemberLinks()
    assert links.absence("b") == "not linked with the leader"
    links.linked("b", 1)
    assert (links.is_ready("b"), links.absence("b")) == (False, "not ready")
    links.ready("b", 1)
    assert links.is_ready("b")
    assert links.departed("b", "lost: silent")
    assert not links.departed("b", "again"), "it was not linked any more"
    assert (links.is_ready("b"), links.absence("b")) == (False, "lost: silent")
    links.linked("b", 1)
    assert links.is_ready("b"), "it is linked again as it was"
    links.linked("b", 2)
    assert not links.is_ready("b")


def test_a_wait_ends_with_the_last_link(fake_time: Callable[..., Any]) -> None:
    async def story() -> float:
        links, loop = MemberLinks(), asyncio.get_running_loop()
        await links.all(())
        loop.call_later(1.0, links.linked, "b", 1)
        loop.call_later(2.0, links.linked, "c", 1)
        began = loop.time()
        await links.all({"b", "c"})
        return loop.time() - began

    assert fake_time(story()) == pytest.approx(2.0, abs=0.01)


def test_a_wait_that_is_too_long_names_who_is_missing(fake_time: Callable[..., Any]) -> None:
    async def story() -> None:
        links = MemberLinks()
        links.linked("b", 1)
        links.linked("c", 1)
        links.departed("c", "lost: silent")
        with pytest.raises(PeersMissing) as raised:
            await links.all({"b", "c", "d"})
        assert raised.value.missing == {"c": "lost: silent", "d": "not linked"}
        assert raised.value.waited == LINK_TIMEOUT

    fake_time(story())
