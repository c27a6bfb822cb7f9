"""Who can be asked: waiting for the expected, settling on whoever is there, and saying who is missing and why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nodes.errors import PeersMissing
from nodes.peer_directory import SETTLE_SECONDS, SiteStatement, parse_statement
from nodes.transport.memory import Faults
from protocol.messages import Capabilities
from protocol.topics import PRESENCE
from tests.cases import first

Tell = Callable[..., Any]


def now() -> float:
    return asyncio.get_running_loop().time()


class TestExpected:
    def test_it_waits_until_every_expected_client_is_ready_and_no_longer(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            guest = await cluster.guest(join=["memory://c0"], expected=["c0", "c1"])
            complete = asyncio.ensure_future(guest.directory.complete(600))
            await asyncio.sleep(30)
            await cluster.client("c0")
            training = await cluster.client("c1", ready=False)
            await cluster.client("c2", factor=9)
            await asyncio.sleep(30)
            assert not complete.done()
            training.ready()
            started = now()
            assert await complete == {"c0": '{"factor": 1.0}', "c1": '{"factor": 1.0}'}
            assert now() - started < 0.1

        tell(story)

    def test_who_was_not_expected_is_never_asked(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            await cluster.client("c0")
            await cluster.client("stranger")
            guest = await cluster.guest(expected=["c0"])
            await asyncio.sleep(5)
            assert list(guest.directory.ready()) == ["c0"]
            assert guest.directory.missing() == {}
            assert [guest.directory.belongs(name) for name in ("c0", "stranger")] == [True, False]

        tell(story)

    def test_the_missing_are_named_with_their_reasons(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            await cluster.client("c0")
            await cluster.client("training", ready=False)
            dead = await cluster.client("dead")
            gone = await cluster.client("gone")
            guest = await cluster.guest(expected=["c0", "training", "dead", "gone", "unborn"])
            await asyncio.sleep(1)
            dead.bus.crash()
            await gone.node.__aexit__(None, None, None)
            with pytest.raises(PeersMissing) as caught:
                await guest.directory.complete(20)
            missing = caught.value.missing
            assert list(missing) == ["dead", "gone", "training", "unborn"]
            assert missing["dead"].startswith("lost: its connection broke")
            assert missing["gone"] == "left: stopped"
            assert missing["training"] == "not ready yet"
            assert missing["unborn"] == "never seen"
            assert str(caught.value).startswith("not ready after 20 s: dead (lost: its connection broke")

        tell(story)

    def test_who_is_restarted_while_it_is_waited_for_counts(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            await cluster.client("c0")
            dying = await cluster.client("c1", ready=False)
            guest = await cluster.guest(expected=["c0", "c1"])
            complete = asyncio.ensure_future(guest.directory.complete(600))
            await asyncio.sleep(1)
            dying.bus.crash()
            await asyncio.sleep(5)
            await cluster.client("c1", factor=2.0)
            assert (await complete)["c1"] == '{"factor": 2.0}'
            assert guest.directory.missing() == {}

        tell(story)


class TestWhoeverIsThere:
    def test_it_settles_on_everybody_that_one_address_leads_to(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            for index in range(5):
                await cluster.client(f"c{index}")
            await asyncio.sleep(1)
            guest = await cluster.guest()
            started = now()
            assert list(await guest.directory.complete(60)) == [f"c{index}" for index in range(5)]
            assert SETTLE_SECONDS <= now() - started < SETTLE_SECONDS + 0.5

        tell(story)

    def test_it_waits_for_who_is_there_but_not_ready(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            await cluster.client("c0")
            training = await cluster.client("c1", ready=False)
            guest = await cluster.guest()
            complete = asyncio.ensure_future(guest.directory.complete(600))
            await asyncio.sleep(100)
            assert not complete.done()
            training.ready()
            assert list(await complete) == ["c0", "c1"]

        tell(story)

    def test_it_does_not_wait_for_the_dead_or_for_guests(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            await cluster.client("c0")
            dying = await cluster.client("c1", ready=False)
            await cluster.guest("other-guest")
            guest = await cluster.guest()
            complete = asyncio.ensure_future(guest.directory.complete(600))
            await asyncio.sleep(10)
            dying.bus.crash()
            await asyncio.sleep(3)
            assert list(complete.result()) == ["c0"]

        tell(story)

    def test_nobody_is_nobody(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            guest = await cluster.guest(join=["memory://nowhere"])
            with pytest.raises(PeersMissing, match="not ready after 5 s: nobody answered"):
                await guest.directory.complete(5)

        tell(story)


class TestCards:
    @pytest.mark.parametrize("seed", first(2, range(4)))
    def test_a_latecomer_gets_every_card_through_loss_and_disorder(self, tell: Tell, seed: int) -> None:
        async def story(cluster: Any) -> None:
            for index in range(4):
                await cluster.client(f"c{index}", factor=float(index))
            await asyncio.sleep(20)
            guest = await cluster.guest(expected=list(cluster.clients))
            capabilities = await guest.directory.complete(30)
            assert capabilities == {f"c{index}": f'{{"factor": {float(index)}}}' for index in range(4)}

        tell(story, Faults(drop=0.3, duplicate=0.1, delay=(0.0, 0.4), heartbeats_too=True), seed)

    def test_an_old_card_that_comes_late_takes_nothing_back(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            guest = await cluster.guest()
            forger = await cluster.forger().link(guest.node)
            forger.say(PRESENCE, Capabilities(text='{"new": 1}', ready=True), number=1)
            forger.say("to/guest/", Capabilities(text="{}", ready=False), number=1)
            await asyncio.sleep(1)
            assert guest.directory.ready() == {"forger": '{"new": 1}'}

        tell(story)

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ('{"method": "m", "card": "{\\"a\\": 1}"}', '{"a": 1}'),
            ('{"method": "m"}', '{"method": "m"}'),
            ("[1]", "[1]"),
            ("no JSON", "no JSON"),
            ("[" * 15_000, "[" * 15_000),
        ],
    )
    def test_a_card_comes_out_of_its_envelope_and_one_without_is_taken_as_it_is(
        self, tell: Tell, text: str, shown: str
    ) -> None:
        async def story(cluster: Any) -> None:
            guest = await cluster.guest()
            forger = await cluster.forger().link(guest.node)
            forger.say(PRESENCE, Capabilities(text=text, ready=True), number=1)
            await asyncio.sleep(1)
            assert guest.directory.ready() == {"forger": shown}

        tell(story)

    def test_the_card_of_an_earlier_life_is_none(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            guest = await cluster.guest()
            old = await cluster.forger().link(guest.node)
            old.say(PRESENCE, Capabilities(text="{}", ready=True), number=1)
            await asyncio.sleep(1)
            assert list(guest.directory.ready()) == ["forger"]
            old.bus.crash()
            new = await cluster.forger(incarnation=2).link(guest.node)
            assert guest.directory.ready() == {}
            new.say(PRESENCE, Capabilities(text='{"life": 2}', ready=True), number=1)
            await asyncio.sleep(1)
            assert guest.directory.ready() == {"forger": '{"life": 2}'}

        tell(story)

    def test_who_was_lost_for_a_while_is_ready_again_without_a_new_card(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            await cluster.client("c0")
            guest = await cluster.guest()
            await guest.directory.complete(10)
            cluster.network.cut("memory://c0", "memory://guest")
            await asyncio.sleep(5)
            assert guest.directory.missing()["c0"].startswith("lost: silent")
            cluster.network.heal("memory://c0", "memory://guest")
            await asyncio.sleep(1)
            assert (list(guest.directory.ready()), guest.directory.missing()) == (["c0"], {})

        tell(story)


class TestAnnouncements:
    def test_they_are_complete_when_every_client_has_announced_before_anybody_is_ready(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            first, second = await cluster.client("c0", ready=False), await cluster.client("c1", ready=False)
            guest = await cluster.guest(expected=["c0", "c1"])
            counts = list[tuple[int, int]]()
            announced = asyncio.ensure_future(guest.directory.announced(lambda *count: counts.append(count)))
            first.capability_publisher.announce("cat")
            await asyncio.sleep(5)
            assert not announced.done()
            second.capability_publisher.announce("dog")
            await asyncio.sleep(1)
            assert announced.result() == {"c0": "cat", "c1": "dog"}
            assert (counts[0], counts[-1]) == ((0, 2), (2, 2))
            assert guest.directory.ready() == {}

        tell(story)

    def test_a_newcomer_hears_what_was_announced_also_of_clients_that_are_ready(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            for name in ("c0", "c1"):
                client = await cluster.client(name, ready=False)
                client.capability_publisher.announce(f"of {name}")
                client.capability_publisher.agree("digest")
                client.ready()
            late = await cluster.guest(expected=["c0", "c1"])
            assert await late.directory.announced() == {"c0": "of c0", "c1": "of c1"}
            assert late.directory.ready() == {"c0": '{"factor": 1.0}', "c1": '{"factor": 1.0}'}
            assert late.directory.other_agreements("digest") == ()
            assert late.directory.other_agreements("another") == ("c0", "c1")

        tell(story)

    def test_losses_and_reordering_lose_no_announcement(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            first = await cluster.client("c0", ready=False)
            guest = await cluster.guest(expected=["c0"])
            first.capability_publisher.announce("cat")
            first.capability_publisher.agree("digest")
            assert await guest.directory.announced() == {"c0": "cat"}
            await asyncio.sleep(20)
            assert guest.directory.other_agreements("") == ("c0",), "a late first statement takes nothing back"

        for seed in range(5):
            tell(story, Faults(drop=0.3, duplicate=0.2, delay=(0.0, 1.0)), seed)

    def test_a_restarted_client_announces_again(self, tell: Tell) -> None:
        async def story(cluster: Any) -> None:
            (await cluster.client("c0", ready=False)).capability_publisher.announce("cat")
            dying = await cluster.client("c1", ready=False)
            guest = await cluster.guest(expected=["c0", "c1"])
            dying.capability_publisher.announce("bee")
            assert await guest.directory.announced() == {"c0": "cat", "c1": "bee"}
            dying.bus.crash()
            await asyncio.sleep(5)
            (await cluster.client("c1", ready=False)).capability_publisher.announce("dog")
            await asyncio.sleep(5)
            assert await guest.directory.announced() == {"c0": "cat", "c1": "dog"}

        tell(story)


def test_a_statement_survives_json_and_nonsense_is_a_card_without_a_method() -> None:
    statement = SiteStatement("m", "cat", "digest", '{"a": 1}')
    assert parse_statement(statement.text()) == statement
    for text in ("{]", "[]", "3", '{"method": 1}'):
        assert parse_statement(text) == SiteStatement(card=text)


def test_the_name_of_a_method_steers_no_terminal_and_forges_no_line() -> None:
    method = parse_statement(
        '{"method": "\\u001b[2Jx\\nfednet: all is well\\ud800' + "y" * 999 + '", "card": "{}"}'
    ).method
    assert method.isprintable()
    assert len(method) <= 80
    assert "x fednet: all is well" in method
