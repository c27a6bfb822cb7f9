"""An exchange over real sockets and threads: the same words as within one process, and nothing but words travels."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor

from fednet.api import (
    ExchangePlan,
    ExchangeRecord,
    Network,
    NullProgress,
    Offer,
    OfferBatch,
    Progress,
    Question,
    SiteContext,
    Stopped,
)
from fednet.errors import MethodError
from fednet.federated.local_network import local_network
from fednet.methods import registry
from fednet.methods.common.disclosure import Disclosure
from fednet.methods.contract import Method
from fednet.seeds import generator
from nodes.client import run_client
from nodes.driver import run_guest
from nodes.spec import NodeSpec

NAMES = ("a1", "a2", "a3")
PATIENCE = 60.0
WIDTH = 16


class Sketcher:
    """Has private pictures, and words that are made of them and of what it has absorbed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pictures = torch.rand(20, 1, 8, 8, generator=generator(7, "pictures", name))
        self.heard: dict[tuple[str, str], Offer] = {}
        self.begun, self.ended = threading.Event(), threading.Event()

    def prepare(self, progress: Progress) -> str:
        progress.report("preparing", 1, 1)
        return "{}"

    def answer(self, question: Question) -> Mapping[str, Tensor]:
        return {"held": torch.tensor(list(self.digest()), dtype=torch.uint8)}

    def initial_offers(self) -> tuple[Offer, ...]:
        return ()

    def offer(self, call: ExchangePlan, progress: Progress) -> OfferBatch:
        if call.task == "endless":
            self.think(progress)
        if call.options.get("balks") == self.name:
            raise MethodError("it has no pictures to learn from")
        width = WIDTH + (call.options.get("wide") == self.name)
        known = sum((offer.embeddings.mean() for _, offer in sorted(self.heard.items())), torch.zeros(()))
        mixed = torch.randn(width, 64, generator=generator(7, "words", call.key))
        version = int(call.options.get("version", 1) or 1)
        learnt = [mixed @ self.pictures[index].flatten() / 64 + known for index in range(3)]
        return OfferBatch(
            tuple(Offer(self.name, f"s{index}", version, words[None]) for index, words in enumerate(learnt)),
            {"known": float(known)},
        )

    def think(self, progress: Progress) -> None:
        try:
            while True:
                self.begun.set()
                progress.report("thinking", 0, 1)
        finally:
            self.ended.set()

    def absorb(self, offer: Offer) -> None:
        if offer.embeddings.shape[1] != WIDTH:
            raise MethodError(f"words have {offer.embeddings.shape[1]} values, {WIDTH} are needed")
        self.heard[offer.origin, offer.subject] = offer

    def digest(self) -> bytes:
        """Of all that it has absorbed, bit for bit."""
        hashed = hashlib.sha256()
        for (origin, subject), offer in sorted(self.heard.items()):
            hashed.update(f"{origin}/{subject}/{offer.version}".encode() + offer.embeddings.numpy().tobytes())
        return hashed.digest()


class Empty(BaseModel):
    """A configuration without a key."""


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> dict[str, Sketcher]:
    """The agents of the clients that are started; their method is in the catalog as "sketching"."""
    made: dict[str, Sketcher] = {}

    def agent(_config: BaseModel, site: SiteContext, _own: Mapping[str, Any]) -> Sketcher:
        made[site.name] = Sketcher(site.name)
        return made[site.name]

    told = (Disclosure("question", "held", "none", "a digest"),)
    sketching = Method("sketching", "sketches", Empty, site=agent, job=lambda *_given: None, disclosures=told)
    monkeypatch.setattr(registry, "find", {"sketching": sketching}.__getitem__)
    return made


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., NodeSpec]:
    def make(name: str, role: Any = "client", **changes: Any) -> NodeSpec:
        join = () if name == "a1" else (f"ipc://{tmp_path}/a1.sock",)
        listen = f"ipc://{tmp_path}/{name}.sock"
        said: dict[str, Any] = {"join": join, "expected": NAMES, "folder": tmp_path, "encoding": "int8"}
        return NodeSpec(name, role, "r", listen, method="sketching", config=Empty(), **{**said, **changes})

    return make


@pytest.fixture
async def stop(agents: Any, spec: Callable[..., NodeSpec]) -> AsyncIterator[asyncio.Event]:
    """Three clients that run until the end of the test, or until this is set."""
    stop = asyncio.Event()
    running = [asyncio.create_task(run_client(spec(name), stop)) for name in NAMES]
    async with asyncio.timeout(PATIENCE):
        yield stop
        stop.set()
        await asyncio.gather(*running)


def job(network: Network, _progress: Progress) -> tuple[list[ExchangeRecord], dict[str, bytes]]:
    """Two rounds of offers, the second of which are made of what was absorbed in the first."""
    records = [network.exchange(ExchangePlan(f"k{number}", "learn", {"version": number})) for number in (1, 2)]
    replies = network.ask(Question("held", {}))
    return records, {name: bytes(outputs["held"].tolist()) for name, outputs in replies.by_node.items()}


async def test_the_bus_leaves_what_one_process_leaves_and_nothing_but_words_goes_over_it(
    agents: dict[str, Sketcher], spec: Callable[..., NodeSpec], stop: asyncio.Event, wiretap: Any, tmp_path: Path
) -> None:
    tap = wiretap.Wiretap().listen(*(f"ipc://{tmp_path}/{name}.sock" for name in (*NAMES, "guest")))
    asked = itertools.count(1)

    def tapped(network: Network, progress: Progress) -> tuple[list[ExchangeRecord], dict[str, bytes]]:
        """The job, once all sites are heard by the tap as well."""
        while tap.answered().keys() != set(NAMES):
            network.ask(Question("held", {}))
            next(asked)
        return job(network, progress)

    records, held = await run_guest(spec("guest", "guest"), tapped, stop)
    last = next(asked)
    await tap.until(lambda: tap.answered() == dict.fromkeys(NAMES, last))
    await tap.close()
    alone = {name: Sketcher(name) for name in NAMES}
    expected, kept = job(local_network(alone, {}), NullProgress())
    assert held == kept == {name: each.digest() for name, each in alone.items()}
    for record, other in zip(records, expected, strict=True):
        assert (record.offered, record.absorbed, record.values) == (other.offered, other.absorbed, other.values)
        assert (record.refused, record.late, record.lost) == ({}, (), {})
        assert all(3 * 4 * WIDTH < sent < 3 * (4 * WIDTH + 200) for sent in record.bytes_sent.values())
    # two sites that link after an offer tell it once more, as a message of its own
    said = {(each.origin, each.subject, each.version) for each in tap.offers(NAMES, WIDTH, but={"query_answer"})}
    assert said == {(name, f"s{index}", version) for name in NAMES for index in range(3) for version in (1, 2)}
    pieces = tap.assert_no_image(picture for each in agents.values() for picture in each.pictures)
    assert pieces > 10_000


async def test_bad_offers_are_refused_by_name(
    agents: dict[str, Sketcher], spec: Callable[..., NodeSpec], stop: asyncio.Event
) -> None:
    def bad(network: Network, _progress: Progress) -> ExchangeRecord:
        return network.exchange(ExchangePlan("k", "learn", {"balks": "a1", "wide": "a3"}))

    record = await run_guest(spec("guest", "guest"), bad, stop)
    assert record.lost == {"a1": "declined: it has no pictures to learn from"}
    assert record.refused == {"a2": {f"a3/s{index}": "words have 17 values, 16 are needed" for index in range(3)}}


async def test_a_client_that_is_stopped_ends_its_work(
    agents: dict[str, Sketcher], spec: Callable[..., NodeSpec], stop: asyncio.Event
) -> None:
    begun = threading.Event()

    def endless(network: Network, _progress: Progress) -> None:
        begun.set()
        network.exchange(ExchangePlan("k", "endless"))

    visiting = asyncio.create_task(run_guest(spec("guest", "guest"), endless, stop))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    for each in agents.values():
        assert await asyncio.to_thread(each.begun.wait, PATIENCE)
    stop.set()
    with pytest.raises(Stopped):
        await visiting
    for each in agents.values():
        assert await asyncio.to_thread(each.ended.wait, PATIENCE)
