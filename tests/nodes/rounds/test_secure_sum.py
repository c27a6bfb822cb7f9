"""Secure sums within rounds, on the in-memory bus and a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from fednet.errors import MethodError
from fednet.federated.config import Secure
from fednet.privacy.masking import VectorMasking
from fednet.privacy.quantise import Quantiser
from nodes.rounds.secure_sum import SecureSumParticipant, threshold_of
from protocol.messages import KINDS
from protocol.messages.secure_sum import EncryptedShare
from tests.cases import covering

Tell = Callable[..., Any]
MakeGroup = Callable[..., Any]
FIVE = ("a", "b", "c", "d", "e")
SECURE = {"clip": 64.0}
BOUND = 1e-5
"""Far above what quantising costs here, far below any step."""


def test_the_threshold_is_the_configured_or_the_usual_one() -> None:
    assert threshold_of(Secure(threshold=4), 5) == 4
    assert threshold_of(Secure(), 10) == 7


CHUNKS = (24, 1 << 20)
STAGES = (
    "key_advertisement",
    "encrypted_share",
    "shares_received",
    "contribution_available",
    "consistency_check",
    "share_reveal",
    "round_vote",
)
"""Messages of a member in a secure round, in their order."""


@pytest.fixture(params=CHUNKS)
def _chunks(request: pytest.FixtureRequest, chunks_of: Callable[[int], None]) -> None:
    chunks_of(request.param)


@pytest.mark.usefixtures("_chunks")
class TestSecureRounds:
    def test_everybody_ends_with_the_mean_and_the_same_bytes(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, *FIVE)
            await group.start()
            records = await group.run_rounds(rounds=2, secure=SECURE)
            assert [set(record.weights) for record in records] == [set(FIVE)] * 2
            assert group.digests() == {records[-1].digest}
            step = sum(place * place for place in range(1, 6)) / sum(range(1, 6))
            for state in group.states().values():
                assert torch.allclose(state["w"], torch.full((3, 2), 3 * step), atol=BOUND)

        tell(story)

    @pytest.mark.parametrize(("_chunks", "kind", "sent"), covering(CHUNKS, STAGES, [False, True]), indirect=["_chunks"])
    def test_a_member_that_crashes_at_any_stage_is_dropped(
        self, tell: Tell, make_group: MakeGroup, *, kind: str, sent: bool
    ) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, *FIVE)
            await group.start()
            group.crash_on("e", kind, sent=sent)
            (record,) = await group.run_rounds(secure=SECURE)
            total = sum(record.weights.values())
            step = sum(weight * (group.names.index(name) + 1) for name, weight in record.weights.items()) / total
            assert set(record.weights) >= set(FIVE) - {"e"}
            await group.settle()
            assert group.digests() == {record.digest}
            for state in group.states().values():
                assert torch.allclose(state["w"], torch.full((3, 2), step), atol=BOUND)

        tell(story)

    @pytest.mark.parametrize(
        ("_chunks", "kind", "sent"), covering(CHUNKS, STAGES[-3:], [False, True]), indirect=["_chunks"]
    )
    def test_a_round_is_unmasked_for_one_set_of_survivors_only(
        self, tell: Tell, make_group: MakeGroup, *, kind: str, sent: bool
    ) -> None:
        """The difference of the sums of one round with and without e would be what e contributed."""

        async def story(cluster: Any) -> None:
            group = make_group(cluster, *FIVE)
            await group.start()
            messages = _sent_messages(group)
            group.crash_on("e", kind, sent=sent)
            await group.run_rounds(secure=SECURE)
            attempts = {message.attempt for message in messages if message.kind == "share_reveal"}
            closed = {
                frozenset(each.contributions)
                for each in messages
                if each.kind == "round_close" and each.attempt in attempts
            }
            assert len(closed) == 1

        tell(story)

    def test_another_leader_opens_with_other_masks(self, tell: Tell, make_group: MakeGroup) -> None:
        async def story(cluster: Any) -> None:
            group = make_group(cluster, *FIVE)
            await group.start()
            messages = _sent_messages(group)
            group.crash_on("a", "round_close", sent=False)
            (record,) = await group.run_rounds(secure=SECURE)
            assert "a" not in record.weights
            keys = [message.public_keys for message in messages if message.kind == "key_advertisement"]
            assert len(keys) == len(set(keys)) > len(FIVE)

        tell(story)

    @pytest.mark.parametrize("revealed", [1, 3])
    @pytest.mark.parametrize("_chunks", CHUNKS, indirect=True)
    def test_a_sum_that_was_revealed_is_finished_without_its_leader(
        self, tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch, revealed: int
    ) -> None:
        """It cannot be repeated for the others: the difference would be what the leader has contributed."""
        enough, first = SecureSumParticipant._enough, FIVE[1 : revealed + 1]

        async def later(self: SecureSumParticipant, received: Any, passes: Any) -> Any:
            found = await enough(self, received, passes)
            if received is self._signatures and self._context.name not in first:
                await asyncio.sleep(3.0)  # longer than it takes to notice that the leader is gone
            return found

        monkeypatch.setattr(SecureSumParticipant, "_enough", later)

        async def story(cluster: Any) -> None:
            group = make_group(cluster, *FIVE)
            await group.start()
            _crash_at_reveal(group, "a", revealed)
            (record,) = await group.run_rounds(secure=SECURE)
            assert set(record.weights) == set(FIVE)
            (more,) = await group.run_rounds("more", secure=SECURE)
            assert set(more.weights) == set(FIVE) - {"a"}
            await group.settle()
            assert group.digests() == {more.digest}

        tell(story)

    def test_no_update_leaves_a_member_unmasked(
        self, tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Searches all frames for updates and for quantised ones, with a search shown to find both."""

        def leaks(secure: dict[str, float] | None) -> bool:
            async def story(cluster: Any) -> bool:
                group = make_group(cluster, "a", "b", "c")
                await group.start()
                frames: list[bytes] = []
                _record_frames(group, frames)
                await group.run_rounds(secure=secure)
                steps = [torch.full((2,), 1.0 + place) for place in range(3)]
                coded = [Quantiser(SECURE["clip"], 3).encode(step, (1 + k) / 3) for k, step in enumerate(steps)]
                searched = [vector.numpy().tobytes() for vector in (*steps, *coded)]
                return any(step in frame for step in searched for frame in frames)

            return bool(tell(story))

        assert leaks(None)
        assert not leaks(SECURE)
        monkeypatch.setattr(VectorMasking, "next", lambda _self, vector: vector.clone())
        assert leaks(SECURE)


def test_a_reveal_may_come_while_others_are_checked(
    tell: Tell, make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are checked on another thread than the one that receives them."""
    unmask, seen = SecureSumParticipant._unmask, list[bool]()

    def unmasking(self: SecureSumParticipant, agreement: Any, total: Any, reveals: dict[str, bytes], base: Any) -> Any:
        self._reveals["late"] = b""
        seen.append("late" in reveals)
        return unmask(self, agreement, total, reveals, base)

    monkeypatch.setattr(SecureSumParticipant, "_unmask", unmasking)

    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a", "b", "c")
        await group.start()
        (record,) = await group.run_rounds(secure=SECURE)
        assert set(record.weights) == {"a", "b", "c"}
        assert seen == [False] * 3

    tell(story)


def test_two_members_cannot_hide_from_each_other(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, "a", "b")
        await group.start()
        with pytest.raises(MethodError, match="at least 3"):
            await group.run_rounds(secure=SECURE)
        assert await group.run_rounds("plain")

    tell(story)


@pytest.mark.parametrize("liar", ["a", "e"])
def test_a_member_whose_shares_are_false_is_left_out(tell: Tell, make_group: MakeGroup, liar: str) -> None:
    """All that were told false shares gave up their own contribution before, again and again."""

    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        node = group.members[liar].node
        tell_ = node.tell

        def telling(name: str, message: Any) -> None:
            if isinstance(message, EncryptedShare):
                message = message.model_copy(update={"ciphertext": message.ciphertext[::-1]})
            tell_(name, message)

        node.tell = telling
        (record,) = await group.run_rounds(secure=SECURE)
        assert set(record.weights) == set(FIVE) - {liar}
        assert liar in record.refused

    tell(story)


def test_too_few_survivors_unmask_nothing(tell: Tell, make_group: MakeGroup) -> None:
    async def story(cluster: Any) -> None:
        group = make_group(cluster, *FIVE)
        await group.start()
        with pytest.raises(MethodError, match="3 of 4 needed for a secure sum"):
            await group.run_rounds(secure={**SECURE, "threshold": 4}, options={"declines": "d", "declines too": "e"})

    tell(story)


def _crash_at_reveal(group: Any, name: str, number: int) -> None:
    """A member crashes once so many others have revealed their shares."""
    reveals = itertools.count(1)
    for other in group.names:
        publish = group.members[other].node.publish

        def spy(topic: str, message: Any, publish: Any = publish, other: str = other) -> None:
            publish(topic, message)
            if message.kind == "share_reveal" and other != name and next(reveals) == number:
                asyncio.get_running_loop().call_soon(group.crash, name)

        group.members[other].node.publish = spy


def _sent_messages(group: Any) -> list[Any]:
    """All messages that members send from now on, but chunks: while one lives, it waits to be sent."""
    messages: list[Any] = []
    for member in group.members.values():
        publish = member.node.publish

        def spy(topic: str, message: Any, publish: Any = publish) -> None:
            if message.kind != "chunk":
                messages.append(message)
            publish(topic, message)

        member.node.publish = spy
    return messages


def _record_frames(group: Any, frames_sent: list[bytes]) -> None:
    """All frames that leave members from now on."""
    for member in group.members.values():
        publish = member.bus.publish

        def spy(frames: Sequence[Any], publish: Any = publish) -> None:
            frames_sent.append(b"".join(bytes(frame) for frame in frames))
            publish(frames)

        member.bus.publish = spy


def test_every_stage_has_a_message() -> None:
    assert {
        "key_advertisement",
        "share_distribution",
        "encrypted_share",
        "shares_received",
        "consistency_check",
        "share_reveal",
    } <= KINDS.keys()
