"""The bus computes nothing: the same agents draw the same samples over ZeroMQ as within one process.

Three trained agents answer, once through `local_ask` and once as nodes of their own on real sockets (one on ipc, two
and the guest on tcp), with the same seed, batches and threads, for every sampler and every rule.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fednet.conversations import Ask, Silent, Site, local_ask
from fednet.diffusion.samplers import ODE, EulerMaruyama, PredictorCorrector, SamplerConfig
from fednet.methods.score_inference.agent import ScoreAgent
from fednet.methods.score_inference.config import ArmConfig, Config, Phase, RuleName, SamplesConfig
from fednet.methods.score_inference.drawing import Samples, draw, read_cards
from fednet.methods.score_inference.rules import RULES
from nodes.compute import Compute
from nodes.node import Node
from nodes.queries.answerer import Desk
from nodes.queries.asker import Asker
from nodes.roster import Presenter, Roster
from nodes.spec import NodeSpec
from nodes.zmq_bus import ZmqBus
from protocol.ledger import Policy

PATIENCE = 60.0
SEED = 5
NAMES = ("a1", "a2", "a3")
TINY = Config.model_validate(
    {
        "data": {"name": "digits", "limit": 60},
        "partition": {"kind": "dirichlet", "alpha": 1.0},
        "model": {"channels": [8], "groups": 4, "attention": False, "conditional": True},
        "train": {"epochs": 1},
    }
)
SAMPLERS: dict[str, SamplerConfig] = {
    "dopri5": ODE(rtol=0.1, atol=0.1),
    "euler-maruyama": EulerMaruyama(steps=3),
    "predictor-corrector": PredictorCorrector(steps=2),
}
SCHEDULE = (
    Phase(below=1.0, rule="mean"),
    Phase(below=0.7, rule="mixture", agents=("a1", "a3")),
    Phase(below=0.3, rule="label-count"),
)
ARMS: dict[str, RuleName | tuple[Phase, ...]] = {**{name: name for name in RULES}, "schedule": SCHEDULE}


@dataclass(frozen=True)
class Federation:
    """The agents' cards, and the two ways to ask them."""

    cards: Mapping[str, str]
    local: Ask
    over_bus: Ask

    def draw(self, ask: Ask, rule: RuleName | tuple[Phase, ...], sampler: SamplerConfig) -> Samples:
        """A sample of each of three labels; with guidance and in two batches where that costs little."""
        costly = isinstance(sampler, ODE)
        return draw(
            ArmConfig(rule=rule, guidance=1.0 if costly else 1.5),
            sampler,
            SamplesConfig(per_label=1, labels=(0, 4, 9), batch=None if costly else 2),
            name="arm",
            ask=ask,
            cards=read_cards(self.cards),
            seed=SEED,
            watch=Silent(),
        )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The same number of threads on both sides."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def federation(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """The agents, and a cluster of them whose event loop runs on a thread of its own: here the solver runs."""
    folder = tmp_path_factory.mktemp("run")
    agents = {name: ScoreAgent(TINY, Site(name, k, len(NAMES), SEED, "cpu", folder)) for k, name in enumerate(NAMES)}
    cards = {name: agent.prepare(Silent()) for name, agent in agents.items()}
    ready: Future[tuple[Ask, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    cluster = threading.Thread(target=lambda: asyncio.run(_cluster(agents, cards, folder, ready)), name="cluster")
    cluster.start()
    over_bus, loop, stop = ready.result(PATIENCE)
    yield Federation(cards, local_ask(agents), over_bus)
    loop.call_soon_threadsafe(stop.set)
    cluster.join(PATIENCE)
    assert not cluster.is_alive()


async def _cluster(
    agents: Mapping[str, ScoreAgent],
    cards: Mapping[str, str],
    folder: Path,
    ready: Future[tuple[Ask, asyncio.AbstractEventLoop, asyncio.Event]],
) -> None:
    """Three clients and a guest until the end; through `ready` go the guest's ask and the way to stop them."""
    try:
        async with AsyncExitStack() as stack:
            first = ""
            for name, agent in agents.items():
                listen = "tcp://127.0.0.1:0" if first else f"ipc://{folder}/{name}.sock"
                join = (first,) if first else ()
                node, compute = Node(NodeSpec(name, "client", "equal", listen, join=join), ZmqBus()), Compute(name)
                stack.callback(compute.close)
                desk, presenter = Desk(node, compute), Presenter(node)
                node.add(desk)
                node.add(presenter)
                await stack.enter_async_context(node)
                desk.open(agent)
                presenter.show(cards[name])
                first = first or node.address
            guest = Node(NodeSpec("guest", "guest", "equal", "tcp://127.0.0.1:0", join=(first,)), ZmqBus())
            roster = Roster(guest, NAMES)
            asker = Asker(guest, roster, Policy())
            guest.add(roster)
            guest.add(asker)
            await stack.enter_async_context(guest)
            assert await roster.complete(PATIENCE) == cards
            stop = asyncio.Event()
            ready.set_result((asker.from_thread(), asyncio.get_running_loop(), stop))
            await stop.wait()
    except BaseException as error:
        if not ready.done():
            ready.set_exception(error)
        raise


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("arm", ARMS)
def test_the_same_samples_come_over_the_bus(federation: Federation, arm: str, sampler: str) -> None:
    here = federation.draw(federation.local, ARMS[arm], SAMPLERS[sampler])
    there = federation.draw(federation.over_bus, ARMS[arm], SAMPLERS[sampler])
    assert float((here.images - there.images).abs().max()) <= 1e-5
    assert float((here.log_p - there.log_p).abs().max()) <= 1e-5
    assert here.account == there.account
    assert here.evaluations == there.evaluations
    assert there.account.lost == {}
    assert {tally.contributed for tally in there.account.nodes.values()} == {there.account.steps}


def test_the_arms_differ_so_that_their_equality_says_something(federation: Federation) -> None:
    drawn = [federation.draw(federation.over_bus, rule, SAMPLERS["euler-maruyama"]).images for rule in ARMS.values()]
    assert len({tuple(images.flatten().tolist()) for images in drawn}) == len(ARMS)
    assert all(float(images.std()) > 0.1 for images in drawn)
