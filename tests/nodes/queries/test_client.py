"""Asking over a bus that loses, doubles, delays and reorders, among peers that crash, dawdle, refuse and return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fednet.api import Replies
from fednet.errors import MethodError
from fednet.federated.local_network import local_ask
from nodes.errors import NoQuorum, PeerError
from nodes.node import BACKPRESSURE_BYTES
from nodes.transport.memory import Faults
from protocol.messages import Capabilities, QueryAnswer, QueryRefusal, QueryRequest
from protocol.topics import PRESENCE, QUERIES

Tell = Callable[..., Any]
Ask = Callable[..., Any]

TROUBLE = Faults(drop=0.1, duplicate=0.05, delay=(0.0, 0.2))


async def clients(cluster: Any, count: int, seconds: float = 0.0) -> None:
    for index in range(count):
        await cluster.client(f"c{index}", factor=1.0 + index / 3, seconds=seconds)


def same(replies: Replies, others: Replies) -> bool:
    return list(replies.by_node) == list(others.by_node) and all(
        torch.equal(replies.by_node[name]["y"], others.by_node[name]["y"]) for name in others.by_node
    )


class TestWait:
    @pytest.mark.parametrize("count", [1, 4, 8])
    def test_the_bus_says_what_one_process_says(self, tell: Tell, question: Ask, count: int) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, count)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            local = local_ask({name: client.answerer for name, client in cluster.clients.items()})
            for number in range(10):
                replies = await guest.requester.ask(question(number))
                assert same(replies, local(question(number)))
                assert len(replies.by_node) == count

        tell(story)

    def test_a_slow_subscriber_slows_the_asker_and_never_the_heartbeats(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            guest.bus.stuck = BACKPRESSURE_BYTES + 1
            asked = asyncio.ensure_future(guest.requester.ask(question()))
            await asyncio.sleep(30)
            assert not asked.done()
            assert set(cluster.clients["c0"].node.presence.linked()) == {"c1", "guest"}
            guest.bus.stuck = BACKPRESSURE_BYTES
            await asyncio.sleep(0.2)
            assert len(asked.result().by_node) == 2

        tell(story)

    def test_who_gives_up_does_not_wait_for_room(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 1)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            guest.bus.stuck = BACKPRESSURE_BYTES + 1
            asked = asyncio.ensure_future(guest.requester.ask(question()))
            await asyncio.sleep(1)
            asked.cancel()
            guest.bus.stuck = BACKPRESSURE_BYTES
            await asyncio.sleep(1)
            assert asked.cancelled()
            assert QUERIES not in guest.node._publisher.outbox.latest, "asked although nobody waits"

        tell(story)

    def test_who_is_gone_holds_nobody_up_and_gets_nothing_more(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            guest.bus.stuck = BACKPRESSURE_BYTES + 1
            cluster.network.cut("memory://c0", "memory://guest")  # as if stopped: its connection stands
            for _ in range(3):
                replies = await guest.requester.ask(question())
                assert set(replies.by_node) == {"c1", "c2"}
            assert QUERIES not in guest.node._publisher.outbox.latest, "said to all, so to the one who is gone"
            cluster.network.heal("memory://c0", "memory://guest")
            await asyncio.sleep(1)
            assert len((await guest.requester.ask(question())).by_node) == 3
            assert guest.node._publisher.outbox.latest[QUERIES] == 1

        tell(story)

    def test_who_is_dead_is_out_of_the_way_of_what_is_said_to_all(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            cluster.clients["c0"].bus.crash()  # which breaks its connection
            await asyncio.sleep(5)
            assert len((await guest.requester.ask(question())).by_node) == 2
            assert guest.node._publisher.outbox.latest[QUERIES] == 1

        tell(story)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("heartbeats_too", [False, True])
    def test_trouble_on_the_way_changes_no_reply_and_loses_none(
        self, tell: Tell, question: Ask, seed: int, heartbeats_too: bool
    ) -> None:
        faults = Faults(TROUBLE.drop, TROUBLE.duplicate, TROUBLE.delay, heartbeats_too)

        async def story(cluster: Any) -> None:
            await clients(cluster, 5)
            guest = await cluster.guest(expected=list(cluster.clients))
            await guest.directory.complete(60)
            local = local_ask({name: client.answerer for name, client in cluster.clients.items()})
            for number in range(30):
                replies = await guest.requester.ask(question(number))
                assert same(replies, local(question(number)))
                assert (replies.late, replies.lost) == ((), {})
            assert cluster.network.lost > 20

        tell(story, faults, seed)

    def test_each_question_is_computed_once_by_each(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            guest = await cluster.guest(expected=list(cluster.clients))
            await guest.directory.complete(60)
            for number in range(20):
                await guest.requester.ask(question(number))
            await asyncio.sleep(5)
            for client in cluster.clients.values():
                assert [asked.inputs["x"][0].item() for asked in client.answerer.asked] == list(range(20))

        tell(story, Faults(drop=0.1, duplicate=0.5, delay=(0.0, 0.2)))

    def test_somebody_slow_is_waited_for(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            slow = await cluster.client("slow", seconds=50.0)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            replies = await guest.requester.ask(question())
            assert set(replies.by_node) == {"c0", "c1", "c2", "slow"}
            slow.compute.seconds = 70.0
            replies = await guest.requester.ask(question())
            assert (set(replies.by_node), replies.late) == ({"c0", "c1", "c2"}, ("slow",))

        tell(story)

    def test_options_and_names_travel(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 1)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            await guest.requester.ask(question(1, t=0.5, probe_seed=None, divergence=True, label="x", n=3))
            (asked,) = cluster.clients["c0"].answerer.asked
            assert asked.ask == "scale"
            assert asked.options == {"t": 0.5, "probe_seed": None, "divergence": True, "label": "x", "n": 3}

        tell(story)


class TestSomeOnly:
    def test_only_they_hear_the_question_and_the_others_are_neither_late_nor_lost(
        self, tell: Tell, question: Ask
    ) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 4)
            guest = await cluster.guest(expected=list(cluster.clients))
            await guest.directory.complete(60)
            cluster.clients["c3"].bus.crash()
            await asyncio.sleep(5)
            for number in range(20):
                replies = await guest.requester.ask(replace(question(number), to=("c2", "c0", "c2")))
                assert (list(replies.by_node), replies.late, replies.lost) == (["c0", "c2"], (), {})
                assert replies.by_node["c2"]["y"][0] == pytest.approx(number * 5 / 3)
            assert len(cluster.clients["c0"].answerer.asked) == len(cluster.clients["c2"].answerer.asked) == 20
            assert cluster.clients["c1"].answerer.asked == []

        tell(story, TROUBLE)

    def test_fewer_than_the_quorum_suffice_where_fewer_are_asked(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3)
            cluster.clients["c1"].answerer.answer = _refuse
            guest = await cluster.guest(quorum=3)
            await guest.directory.complete(10)
            assert list((await guest.requester.ask(replace(question(), to=("c2",)))).by_node) == ["c2"]
            with pytest.raises(NoQuorum, match=r"1 of 2 needed peers contributed \(c2\); missing: c1: refused: x must"):
                await guest.requester.ask(replace(question(), to=("c1", "c2")))

        tell(story)

    @pytest.mark.parametrize("to", [("c9",), ("c0", "c9"), ("c0", "slow"), ("c0", "gone"), ("guest",)])
    def test_somebody_who_cannot_be_asked_is_named_before_anything_is_said(
        self, tell: Tell, question: Ask, to: tuple[str, ...]
    ) -> None:
        reasons = {"c9": "never seen", "slow": "not ready yet", "gone": "left: stopped", "guest": "never seen"}

        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            await cluster.client("slow", ready=False)
            gone = await cluster.client("gone")
            guest = await cluster.guest()
            await asyncio.sleep(5)
            await gone.node.__aexit__(None, None, None)
            await asyncio.sleep(1)
            absent = to[-1]
            with pytest.raises(PeerError, match=rf"cannot ask {absent} \({reasons[absent]}\); there are c0, c1$"):
                await guest.requester.ask(replace(question(), to=to))
            await asyncio.sleep(5)
            assert cluster.clients["c0"].answerer.asked == []
            assert guest.requester._open == {}

        tell(story)

    def test_a_client_of_another_configuration_is_not_of_the_run(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest(expected=["c0"])
            await guest.directory.complete(10)
            with pytest.raises(PeerError, match=r"cannot ask c1 \(not of this run\)"):
                await guest.requester.ask(replace(question(), to=("c1",)))

        tell(story)

    def test_a_question_to_nobody_is_no_quorum(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            with pytest.raises(NoQuorum):
                await guest.requester.ask(replace(question(), to=()))

        tell(story)


class TestLosses:
    @pytest.mark.parametrize("kind", ["wait", "survivors"])
    def test_who_crashes_over_a_question_is_left_behind_within_a_second(
        self, tell: Tell, question: Ask, kind: str
    ) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 3, seconds=0.1)
            dying = await cluster.client("dying", seconds=5.0)
            guest = await cluster.guest(expected=list(cluster.clients), kind=kind)
            await guest.directory.complete(10)
            loop = asyncio.get_running_loop()
            loop.call_later(0.5, dying.bus.crash)
            started = loop.time()
            replies = await guest.requester.ask(question())
            assert loop.time() - started < 0.5 + 1.0
            assert list(replies.by_node) == ["c0", "c1", "c2"]
            assert list(replies.lost) == ["dying"]
            assert replies.lost["dying"].startswith("lost: its connection broke")
            replies = await guest.requester.ask(question())
            assert (list(replies.by_node), list(replies.lost)) == (["c0", "c1", "c2"], ["dying"])

        tell(story)

    def test_who_is_cut_off_over_a_question_is_left_behind_after_the_silence(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            cluster.network.cut("memory://c1", "memory://guest")
            loop = asyncio.get_running_loop()
            started = loop.time()
            replies = await guest.requester.ask(question())
            assert 2.5 < loop.time() - started < 3.5
            assert replies.lost["c1"].startswith("lost: silent for 3")

        tell(story)

    def test_who_comes_back_takes_part_again(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            cluster.network.cut("memory://c1", "memory://guest")
            assert list((await guest.requester.ask(question())).by_node) == ["c0"]
            cluster.network.heal("memory://c1", "memory://guest")
            await asyncio.sleep(2)
            replies = await guest.requester.ask(question(9))
            assert (list(replies.by_node), replies.lost) == (["c0", "c1"], {})

        tell(story)

    def test_who_is_restarted_takes_part_again_once_it_is_ready(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            guest = await cluster.guest(expected=["c0", "c1"])
            await guest.directory.complete(10)
            for number in range(5):
                await guest.requester.ask(question(number))
            cluster.clients["c1"].bus.crash()
            again = await cluster.client("c1", factor=7.0, ready=False)
            await asyncio.sleep(2)
            replies = await guest.requester.ask(question())
            assert (list(replies.by_node), replies.lost) == (["c0"], {"c1": "not ready yet"})
            again.ready()
            await asyncio.sleep(1)
            replies = await guest.requester.ask(question())
            assert replies.by_node["c1"]["y"][0] == 7.0

        tell(story)

    def test_a_goodbye_over_a_question_is_no_wait_at_all(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            leaving = await cluster.client("leaving", seconds=50.0)
            guest = await cluster.guest()
            await guest.directory.complete(10)
            loop = asyncio.get_running_loop()
            asked, started = asyncio.ensure_future(guest.requester.ask(question())), loop.time()
            await asyncio.sleep(0.1)
            await leaving.node.__aexit__(None, None, None)
            replies = await asked
            assert loop.time() - started < 0.2
            assert replies.lost == {"leaving": "left: stopped"}

        tell(story)

    def test_a_refusal_is_a_loss_with_its_reason(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            cluster.clients["c1"].answerer.answer = _refuse
            guest = await cluster.guest()
            await guest.directory.complete(10)
            replies = await guest.requester.ask(question())
            assert (list(replies.by_node), replies.lost) == (["c0"], {"c1": "refused: x must be (n, 3), not (3,)"})

        tell(story)


def _refuse(_question: Any) -> Any:
    raise MethodError("x must be (n, 3), not (3,)")


class TestSurvivors:
    def test_after_some_questions_who_is_far_slower_is_late(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 4, seconds=0.3)
            guest = await cluster.guest(kind="survivors", quorum=3, floor=0.2, cold_start=10.0)
            await guest.directory.complete(10)
            for number in range(4):
                assert (await guest.requester.ask(question(number))).late == ()
            cluster.clients["c2"].compute.seconds = 5.0
            loop = asyncio.get_running_loop()
            started = loop.time()
            replies = await guest.requester.ask(question())
            assert loop.time() - started < 1.0
            assert (list(replies.by_node), replies.late, replies.lost) == (["c0", "c1", "c3"], ("c2",), {})

        tell(story)

    def test_a_cold_start_is_patient(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            await cluster.client("slow", seconds=9.0)
            guest = await cluster.guest(kind="survivors", cold_start=10.0)
            await guest.directory.complete(10)
            assert (await guest.requester.ask(question())).late == ()

        tell(story)

    def test_who_was_late_is_asked_again(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 2)
            slow = await cluster.client("slow", seconds=11.0)
            guest = await cluster.guest(kind="survivors", cold_start=10.0)
            await guest.directory.complete(10)
            assert (await guest.requester.ask(question())).late == ("slow",)
            await asyncio.sleep(20)
            slow.compute.seconds = 0.0
            assert (await guest.requester.ask(question())).late == ()

        tell(story)


class TestNoQuorum:
    def test_nobody_to_ask_is_no_quorum_at_once(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            guest = await cluster.guest(expected=["c0"])
            with pytest.raises(NoQuorum) as caught:
                await guest.requester.ask(question())
            assert (caught.value.have, caught.value.need, caught.value.missing) == ((), 1, {"c0": "never seen"})

        tell(story)

    def test_too_few_say_who_is_missing_and_why(self, tell: Tell, question: Ask) -> None:
        async def story(cluster: Any) -> None:
            await clients(cluster, 4)
            cluster.clients["c1"].compute.seconds = 50.0
            cluster.clients["c2"].answerer.answer = _refuse
            cluster.clients["c3"].compute.seconds = 1000.0
            guest = await cluster.guest(quorum=3, hard_limit=20.0)
            await guest.directory.complete(10)
            asyncio.get_running_loop().call_later(0.5, cluster.clients["c1"].bus.crash)
            with pytest.raises(NoQuorum) as caught:
                await guest.requester.ask(question())
            assert caught.value.have == ("c0",)
            assert caught.value.missing["c1"].startswith("lost: its connection broke")
            assert caught.value.missing["c2"].startswith("refused: x must be")
            assert caught.value.missing["c3"] == "late"
            assert "1 of 3 needed peers contributed (c0)" in str(caught.value)

        tell(story)


class TestAnswersThatMustNotCount:
    """A forger that is linked and ready answers as it likes, beside one honest client."""

    def ask(self, tell: Tell, question: Ask, reply: Callable[[Any, QueryRequest], None]) -> Replies:
        async def story(cluster: Any) -> Replies:
            await cluster.client("honest", seconds=1.0)
            guest = await cluster.guest(hard_limit=5.0)
            await guest.directory.complete(10)
            forger = cluster.forger()
            forger.bus.subscribe(["queries/"])
            await forger.link(guest.node)
            forger.say(PRESENCE, Capabilities(text="{}", ready=True), number=1)
            await asyncio.sleep(0.1)
            asked = asyncio.ensure_future(guest.requester.ask(question()))
            await asyncio.sleep(0.1)
            (query,) = forger.messages(QueryRequest)
            reply(forger, query)
            replies: Replies = await asked
            return replies

        replies: Replies = tell(story)
        assert replies.by_node["honest"]["y"][0] == 1.0
        return replies

    @staticmethod
    def answer(query: int, value: float) -> QueryAnswer:
        return QueryAnswer(query=query, outputs={"y": torch.tensor([value])}, seconds=0.0)

    def test_the_first_answer_counts_and_no_second_one(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.say("to/guest/", self.answer(query.query, 1.0), number=1)
            forger.say("to/guest/", self.answer(query.query, 2.0), number=2)
            forger.say("to/guest/", self.answer(query.query, 3.0), number=1)
            forger.say("to/guest/", QueryRefusal(query=query.query, reason="too late"), number=3)

        replies = self.ask(tell, question, reply)
        assert replies.by_node["forger"]["y"].tolist() == [1.0]
        assert replies.lost == {}

    def test_an_answer_to_no_open_question_is_dropped(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.say("to/guest/", self.answer(query.query + 1, 2.0), number=1)
            forger.say("to/guest/", self.answer(0, 2.0), number=2)

        assert self.ask(tell, question, reply).late == ("forger",)

    def test_an_answer_of_an_earlier_life_is_dropped(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.incarnation = 0
            forger.say("to/guest/", self.answer(query.query, 2.0), number=1)

        assert self.ask(tell, question, reply).late == ("forger",)

    def test_an_answer_in_the_name_of_a_stranger_is_dropped(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.name = "stranger"
            forger.say("to/guest/", self.answer(query.query, 2.0), number=1)

        assert self.ask(tell, question, reply).late == ("forger",)

    def test_an_answer_of_another_run_is_dropped(self, tell: Tell, question: Ask) -> None:
        def reply(forger: Any, query: QueryRequest) -> None:
            forger.run = "other"
            forger.say("to/guest/", self.answer(query.query, 2.0), number=1)

        assert self.ask(tell, question, reply).late == ("forger",)


def test_a_late_answer_to_a_closed_question_changes_nothing(tell: Tell, question: Ask) -> None:
    async def story(cluster: Any) -> None:
        await clients(cluster, 2)
        await cluster.client("slow", factor=9.0, seconds=2.0)
        guest = await cluster.guest(kind="survivors", cold_start=1.0)
        await guest.directory.complete(10)
        first = await guest.requester.ask(question(1))
        assert first.late == ("slow",)
        await asyncio.sleep(0.5)
        second = await guest.requester.ask(question(2))
        await asyncio.sleep(10)
        assert list(first.by_node) == list(second.by_node) == ["c0", "c1"]
        assert second.by_node["c0"]["y"][0] == 2.0
        assert guest.requester._open == {}

    tell(story)


def test_who_no_longer_waits_for_an_answer_harms_nobody(tell: Tell, question: Ask) -> None:
    async def story(cluster: Any) -> None:
        await cluster.client("c0", seconds=2.0)
        guest = await cluster.guest()
        await guest.directory.complete(10)
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(guest.requester.ask(question(1)), 1.0)
        await asyncio.sleep(10)
        assert (await guest.requester.ask(question(2))).by_node["c0"]["y"][0] == 2.0
        assert failures == []
        assert guest.requester._open == {}

    tell(story)


def test_a_question_that_cannot_be_sent_leaves_nothing_open(tell: Tell, question: Ask) -> None:
    async def story(cluster: Any) -> None:
        await clients(cluster, 1)
        guest = await cluster.guest()
        await guest.directory.complete(10)
        with pytest.raises(ValueError, match="options"):
            await guest.requester.ask(question(1, **{"": 1}))
        assert guest.requester._open == {}
        assert (await guest.requester.ask(question())).lost == {}

    tell(story)


def test_nobody_is_late_because_the_asker_itself_stood_still(tell: Tell, question: Ask) -> None:
    async def story(cluster: Any) -> None:
        await clients(cluster, 3, seconds=2.0)
        guest = await cluster.guest(hard_limit=5.0)
        await guest.directory.complete(10)
        asked = asyncio.ensure_future(guest.requester.ask(question(1)))
        await asyncio.sleep(1)
        asyncio.get_running_loop()._jumping.now += 90  # type: ignore[attr-defined]  # SIGSTOP, SIGCONT
        replies = await asked
        assert (len(replies.by_node), replies.late) == (3, ())

    tell(story)
