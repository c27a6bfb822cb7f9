"""The record of an exchange: offers, verdicts, and who is missing and why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fednet.api import Offer
from fednet.errors import MethodError
from protocol.codec import decode

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]


class TestRecord:
    def test_it_names_offers_and_who_absorbed_them(self, tell: Tell, make_group: MakeGroup, wiretap: Any) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            tap = wiretap.Wiretap().on(cluster.network)
            record = await group.exchange(subjects=1)
            assert record.offered == {name: {"s0": 1} for name in "abc"}
            assert record.absorbed == {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b")}
            assert record.values == {name: {"number": group.number(name)} for name in "abc"}
            assert (record.refused, record.late, record.lost) == ({}, (), {})
            assert record.seconds >= 1.0
            offers = [frames for frames in tap.messages if decode(frames).message.kind == "offer"]
            assert record.bytes_sent == {decode(frames).sender: sum(map(len, frames)) for frames in offers}
            assert len(offers) == 3

        tell(story)

    def test_a_client_that_declines_or_fails_is_named_and_absorbs(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, *"abcd")
            await group.start()
            refused = list[tuple[str, ...]]()
            group.peers["b"].node.on_refusal = lambda *refusal: refused.append(refusal)
            record = await group.exchange(declines="b", fails="d")
            assert refused == [("driver", "exchange learn", "it has nothing to offer")]
            failed = "declined: ZeroDivisionError in learn; see this node's log"
            assert record.lost == {"b": "declined: it has nothing to offer", "d": failed}
            assert list(record.offered) == ["a", "c"]
            assert record.absorbed == {"a": ("c",), "c": ("a",)}
            await asyncio.sleep(5)
            assert all(len(group.peers[name].exchanger.current()) == 4 for name in "bd")

        tell(story)

    def test_when_all_decline_the_error_has_their_reasons(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a")
            await group.start()
            with pytest.raises(MethodError, match="nobody offers anything under 'k': a declined: it has nothing"):
                await group.exchange(declines="a")

        tell(story)

    def test_a_method_without_exchangers_declines(self, tell: Tell, make_group: MakeGroup, no_exchanger: Any) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a")
            await group.peer("a", exchanger=no_exchanger, ready=False)
            group.peers["a"].publisher.show("{}")
            await group.peers["a"].service.open(no_exchanger)
            await group.add_driver()
            with pytest.raises(MethodError, match="a declined: its method takes no part in exchanges"):
                await group.exchange()

        tell(story)

    def test_embeddings_of_another_width_are_refused_by_name(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            group.peers["b"].exchanger.alter = lambda embeddings: torch.cat([embeddings, embeddings], 1)
            refused = list[tuple[str, ...]]()
            group.peers["a"].node.on_refusal = lambda *refusal: refused.append(refusal)
            record = await group.exchange()
            assert refused == [("b", "offer", "tokens have 8 values, expected 4")] * 2
            reasons = dict.fromkeys(("b/s0", "b/s1"), "tokens have 8 values, expected 4")
            assert record.refused == {"a": reasons, "c": reasons}
            assert record.absorbed == {"a": ("c",), "b": ("a", "c"), "c": ("a",)}

        tell(story)

    def test_embeddings_that_are_not_finite_never_leave(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster)
            await group.start()
            group.peers["b"].exchanger.alter = lambda embeddings: embeddings * torch.nan
            record = await group.exchange()
            reason = "declined: b's offer 's0' has embeddings that are not finite"
            assert record.lost == {"b": reason}

        tell(story)

    def test_an_error_while_absorbing_is_a_refusal(self, tell: Tell, make_group: MakeGroup) -> None:
        def absorb(offer: Offer) -> None:
            raise ZeroDivisionError

        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b")
            await group.start()
            group.peers["b"].exchanger.absorb = absorb
            record = await group.exchange(subjects=1)
            assert record.refused == {"b": {"a/s0": "ZeroDivisionError while absorbing; see this node's log"}}

        tell(story)

    def test_offers_without_room_are_refused_and_counted(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, "a", "b")
            await group.start()
            group.peers["b"].service._store.max_offers = 1
            record = await group.exchange(subjects=3)
            assert [reason[:8] for reason in record.refused["b"].values()] == ["no room:", "no room:"]
            assert record.absorbed == {"a": ("b",), "b": ("a",)}
            assert group.peers["b"].node.counts["no room"] == 2

        tell(story)
