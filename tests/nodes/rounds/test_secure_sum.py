"""Secure sums in rounds, on the in-memory bus and a clock that jumps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from fednet.errors import MethodError
from fednet.federated.config import Secure
from fednet.privacy.quantise import Quantiser
from nodes.rounds.secure_sum import SecureSumParticipant, threshold_of
from protocol.messages import KINDS

Tell = Callable[..., Any]
FIVE = ("a", "b", "c", "d", "e")
SECURE = {"clip": 64.0}
BOUND = 1e-5
"""Far above what quantising costs here, far below any step."""


def test_the_threshold_is_the_configured_or_the_usual_one() -> None:
    assert threshold_of(Secure(threshold=4), 5) == 4
    assert threshold_of(Secure(), 10) == 7


@pytest.mark.parametrize("transport", ["mesh", "sharded"])
class TestSecureRounds:
    def test_everybody_ends_with_the_mean_and_the_same_bytes(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            await meeting.assemble()
            records = await meeting.run_rounds(rounds=2, transport=transport, secure=SECURE)
            assert [set(record.weights) for record in records] == [set(FIVE)] * 2
            assert meeting.digests() == {records[-1].digest}
            step = sum(place * place for place in range(1, 6)) / sum(range(1, 6))
            for state in meeting.states().values():
                assert torch.allclose(state["w"], torch.full((3, 2), 3 * step), atol=BOUND)

        tell(story)

    @pytest.mark.parametrize(
        "at",
        [
            "key_advertisement",
            "encrypted_share",
            "shares_received",
            "contribution_available",
            "consistency_check",
            "share_reveal",
            "round_vote",
        ],
    )
    @pytest.mark.parametrize("said", [False, True])
    def test_who_dies_at_any_stage_is_dropped(
        self, tell: Tell, hall: Any, *, transport: str, at: str, said: bool
    ) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            await meeting.assemble()
            meeting.dies("e", at, said=said)
            (record,) = await meeting.run_rounds(transport=transport, secure=SECURE)
            total = sum(record.weights.values())
            step = sum(weight * (meeting.names.index(name) + 1) for name, weight in record.weights.items()) / total
            assert set(record.weights) >= set(FIVE) - {"e"}
            await meeting.calm()
            assert meeting.digests() == {record.digest}
            for state in meeting.states().values():
                assert torch.allclose(state["w"], torch.full((3, 2), step), atol=BOUND)

        tell(story)

    @pytest.mark.parametrize("at", ["consistency_check", "share_reveal", "round_vote"])
    @pytest.mark.parametrize("said", [False, True])
    def test_a_round_is_opened_for_one_set_of_survivors_only(
        self, tell: Tell, hall: Any, *, transport: str, at: str, said: bool
    ) -> None:
        """The difference of the sums of one round with and without e would be what e contributed."""

        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            await meeting.assemble()
            heard = _wire(meeting)
            meeting.dies("e", at, said=said)
            await meeting.run_rounds(transport=transport, secure=SECURE)
            attempts = {message.attempt for message in heard if message.kind == "share_reveal"}
            closed = {
                frozenset(each.contributions)
                for each in heard
                if each.kind == "round_close" and each.attempt in attempts
            }
            assert len(closed) == 1

        tell(story)

    def test_the_lead_dies_and_another_one_opens_with_other_masks(self, tell: Tell, hall: Any, transport: str) -> None:
        async def story(cluster: Any) -> None:
            meeting = hall(cluster, *FIVE)
            await meeting.assemble()
            heard = _wire(meeting)
            meeting.dies("a", "round_close", said=False)
            (record,) = await meeting.run_rounds(transport=transport, secure=SECURE)
            assert "a" not in record.weights
            keys = [message.public_keys for message in heard if message.kind == "key_advertisement"]
            assert len(keys) == len(set(keys)) > len(FIVE)

        tell(story)

    def test_no_update_leaves_a_member_unmasked(
        self, tell: Tell, hall: Any, monkeypatch: pytest.MonkeyPatch, transport: str
    ) -> None:
        """Searches all that is said for updates and for quantised ones, with a search shown to find both."""

        def leaks(secure: dict[str, float] | None) -> bool:
            async def story(cluster: Any) -> bool:
                meeting = hall(cluster, "a", "b", "c")
                await meeting.assemble()
                found: list[bytes] = []
                _frames(meeting, found)
                await meeting.run_rounds(transport=transport, secure=secure)
                steps = [torch.full((2,), 1.0 + place) for place in range(3)]
                coded = [Quantiser(SECURE["clip"], 3).encode(step, (1 + k) / 3) for k, step in enumerate(steps)]
                searched = [vector.numpy().tobytes() for vector in (*steps, *coded)]
                return any(step in frame for step in searched for frame in found)

            return bool(tell(story))

        assert leaks(None)
        assert not leaks(SECURE)
        for module in ("secure_sum", "unmasking"):
            monkeypatch.setattr(f"fednet.privacy.{module}.add_mask", lambda *_given: None)
        assert leaks(SECURE)


def test_a_reveal_may_come_while_others_are_looked_at(tell: Tell, hall: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked at on another thread than the one that hears them."""
    change, seen = SecureSumParticipant._change, list[bool]()

    def looks(
        self: SecureSumParticipant, agreement: Any, total: torch.Tensor, reveals: dict[str, bytes]
    ) -> torch.Tensor:
        self._reveals["late"] = b""
        seen.append("late" in reveals)
        return change(self, agreement, total, reveals)

    monkeypatch.setattr(SecureSumParticipant, "_change", looks)

    async def story(cluster: Any) -> None:
        meeting = hall(cluster, "a", "b", "c")
        await meeting.assemble()
        (record,) = await meeting.run_rounds(secure=SECURE)
        assert set(record.weights) == {"a", "b", "c"}
        assert seen == [False] * 3

    tell(story)


def test_two_members_cannot_hide_from_each_other(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster, "a", "b")
        await meeting.assemble()
        with pytest.raises(MethodError, match="at least 3"):
            await meeting.run_rounds(secure=SECURE)
        assert await meeting.run_rounds("plain")

    tell(story)


def test_who_is_configured_for_secure_rounds_contributes_to_no_other(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster, "a", "b", "c")
        await meeting.assemble()
        for member in meeting.members.values():
            object.__setattr__(member.assembly._context, "sealed", True)
        with pytest.raises(MethodError, match="behind a secure sum only"):
            await meeting.run_rounds()
        assert not any(member.walker.tasks for member in meeting.members.values())
        assert await meeting.run_rounds("sealed", secure=SECURE)

    tell(story)


def test_too_few_survivors_open_nothing(tell: Tell, hall: Any) -> None:
    async def story(cluster: Any) -> None:
        meeting = hall(cluster, *FIVE)
        await meeting.assemble()
        with pytest.raises(MethodError, match="3 of 4 needed for a secure sum"):
            await meeting.run_rounds(secure={**SECURE, "threshold": 4}, options={"balks": "d", "balks too": "e"})

    tell(story)


def _wire(meeting: Any) -> list[Any]:
    """All that members say from now on."""
    heard: list[Any] = []
    for member in meeting.members.values():
        publish = member.node.publish

        def spy(topic: str, message: Any, publish: Any = publish) -> None:
            heard.append(message)
            publish(topic, message)

        member.node.publish = spy
    return heard


def _frames(meeting: Any, found: list[bytes]) -> None:
    """All bytes that leave members from now on."""
    for member in meeting.members.values():
        publish = member.bus.publish

        def spy(frames: Sequence[Any], publish: Any = publish) -> None:
            found.append(b"".join(bytes(frame) for frame in frames))
            publish(frames)

        member.bus.publish = spy


def test_every_stage_has_a_word() -> None:
    assert {
        "key_advertisement",
        "share_distribution",
        "encrypted_share",
        "shares_received",
        "consistency_check",
        "share_reveal",
    } <= KINDS.keys()
