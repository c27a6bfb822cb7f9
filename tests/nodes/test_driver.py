"""Somebody who only asks, over real sockets and threads: it waits, does its job, leaves, and can be stopped."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import ExchangePlan, ExchangeRecord, Question, Replies, RoundRecord, Stopped
from fednet.errors import MethodError
from nodes.driver import ParticipationNote, run_driver, run_guest
from nodes.errors import MethodMismatch, NoQuorum, PeersMissing
from nodes.spec import Timing
from protocol.errors import EncodingError
from protocol.quorum import QuorumPolicy

PATIENCE = 20.0


@pytest.fixture(autouse=True)
async def patience() -> Any:
    async with asyncio.timeout(PATIENCE):
        yield


async def test_it_does_the_job_of_its_method(
    site: Callable[..., Any], real_spec: Callable[..., Any], tmp_path: Path
) -> None:
    site("c0", index=0)
    site("c1", index=1)
    await run_driver(real_spec("guest", "guest", expected=("c0", "c1"), seed=3), asyncio.Event())
    said = json.loads((tmp_path / "metrics.json").read_text())
    assert said == {"c0": ['{"factor": 1.0}', 3.0], "c1": ['{"factor": 2.0}', 6.0]}


async def test_whoever_is_there_is_asked_when_nobody_is_expected(
    site: Callable[..., Any], real_spec: Callable[..., Any]
) -> None:
    site("c0")
    capabilities = await run_guest(
        real_spec("guest", "guest"), lambda network, _progress: dict(network.capabilities), asyncio.Event()
    )
    assert list(capabilities) == ["c0"]


async def test_clients_of_another_method_are_refused_by_name(
    site: Callable[..., Any], real_spec: Callable[..., Any]
) -> None:
    site("c0")
    with pytest.raises(MethodMismatch, match="for a cluster of the method other, and here c0 run scaling") as caught:
        await run_guest(real_spec("guest", "guest", method="other"), lambda *_given: None, asyncio.Event())
    assert caught.value.methods == {"c0": "scaling"}


async def test_whoever_started_it_hears_how_far_it_is(site: Callable[..., Any], real_spec: Callable[..., Any]) -> None:
    heard: list[Any] = []
    site("c0")

    def job(_network: Any, progress: Any) -> None:
        progress.report("solving", 2, 2, loss=0.5)

    await run_guest(real_spec("guest", "guest"), job, asyncio.Event(), lambda *told: heard.append(told))
    assert heard == [("solving", 2, 2, {"loss": 0.5})]


async def test_who_never_comes_is_named(real_spec: Callable[..., Any], scaling: Any) -> None:
    spec = real_spec("guest", "guest", expected=("c0",), timing=Timing(ready=0.1))
    with pytest.raises(PeersMissing, match=r"c0 \(never seen\)"):
        await run_guest(spec, lambda *_given: None, asyncio.Event())


@pytest.mark.parametrize("error", [MethodError("cannot"), ZeroDivisionError("bug")])
async def test_what_goes_wrong_in_the_job_is_told(
    site: Callable[..., Any], real_spec: Callable[..., Any], error: Exception
) -> None:
    def job(*_given: Any) -> None:
        raise error

    site("c0")
    with pytest.raises(type(error)):
        await run_guest(real_spec("guest", "guest", expected=("c0",)), job, asyncio.Event())


@pytest.mark.parametrize(
    ("inputs", "options"), [({"x": torch.zeros((1,) * 20)}, {}), ({"x": torch.zeros(1)}, {"": 1}), ({"x": 3.0}, {})]
)
async def test_a_question_that_cannot_be_said_is_an_error_where_it_is_asked(
    site: Callable[..., Any], real_spec: Callable[..., Any], inputs: Any, options: Any
) -> None:
    def job(network: Any, _progress: Any) -> str:
        with pytest.raises((ValueError, EncodingError)):
            network.ask(Question("scale", inputs, options))
        return "went on"

    site("c0")
    assert await run_guest(real_spec("guest", "guest", expected=("c0",)), job, asyncio.Event()) == "went on"


async def test_too_few_answers_end_the_job(site: Callable[..., Any], real_spec: Callable[..., Any]) -> None:
    site("c0")
    spec = real_spec("guest", "guest", expected=("c0",), policy=QuorumPolicy(quorum=2))
    with pytest.raises(NoQuorum, match="1 of 2 needed"):
        await run_guest(
            spec, lambda network, _progress: network.ask(Question("scale", {"x": torch.zeros(1)})), asyncio.Event()
        )


async def test_it_can_be_stopped_while_it_waits(real_spec: Callable[..., Any], scaling: Any) -> None:
    stop = asyncio.Event()
    visiting = asyncio.create_task(run_guest(real_spec("guest", "guest", expected=("c0",)), lambda *_given: None, stop))
    stop.set()
    with pytest.raises(Stopped):
        await visiting


async def test_it_can_be_stopped_while_it_works(site: Callable[..., Any], real_spec: Callable[..., Any]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def job(_network: Any, progress: Any) -> None:
        loop.call_soon_threadsafe(stop.set)
        while True:
            progress.report("solving", 0, 1)

    site("c0")
    with pytest.raises(Stopped):
        await run_guest(real_spec("guest", "guest", expected=("c0",)), job, stop)


async def test_no_solver_is_left_waiting_for_answers(site: Callable[..., Any], real_spec: Callable[..., Any]) -> None:
    loop, stop, ended = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def job(network: Any, _progress: Any) -> None:
        loop.call_soon_threadsafe(stop.set)
        try:
            while True:
                network.ask(Question("scale", {"x": torch.zeros(1)}))
        except Stopped:
            ended.set()
            raise

    site("c0")
    with pytest.raises(Stopped):
        await run_guest(real_spec("guest", "guest", expected=("c0",)), job, stop)
    assert ended.is_set()


def test_the_remark_says_who_answered_who_was_late_and_who_is_lost() -> None:
    remark = ParticipationNote()
    assert remark() == ""
    remark.answered(Replies({"a": {}, "c": {}}, ("d",), {"b": "lost: silent"}))
    assert remark() == "a c · late d · lost b"
    remark.answered(Replies({"a": {}}))
    assert remark() == "a"


def test_the_remark_says_who_had_a_part_in_the_last_round() -> None:
    remark = ParticipationNote()
    weights = {"a": 2.0, "c": 1.0}
    record = RoundRecord(1, "m", weights, {}, ("d",), {"b": "died"}, {"e": "NaN"}, digest="", seconds=0.0, leader="a")
    remark.closed(record)
    assert remark() == "a c · late d · lost b e"


def test_the_remark_says_who_had_a_part_in_the_last_exchange() -> None:
    remark = ParticipationNote()
    offered = {name: {"seven": 1} for name in "abc"}
    remark.exchanged(ExchangeRecord("k", offered, {}, {}, {}, {}, ("d",), {"b": "died", "e": "declined"}, 0.0))
    assert remark() == "a c · late d · lost b e"


async def test_an_exchange_with_clients_that_are_no_traders_is_none(
    site: Callable[..., Any], real_spec: Callable[..., Any]
) -> None:
    site("c0")
    with pytest.raises(MethodError, match="c0 declined: its method takes no part in exchanges"):
        await run_guest(
            real_spec("guest", "guest", expected=("c0",)),
            lambda network, _progress: network.exchange(ExchangePlan("k", "learn")),
            asyncio.Event(),
        )
