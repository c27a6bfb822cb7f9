"""The bus computes nothing: the same agents make the same of everything over ZeroMQ as within one process.

Three trained agents answer, once through `local_ask` and once as nodes of their own on real sockets (one on ipc, two
and the guest on tcp), with the same seed, batches and threads, for every sampler and every rule. Then three sites
train together under every rule and transport, once through `local_network` and once as nodes: to the same bytes.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.api import Ask, Network, NullProgress, Participant, Progress, RoundRecord, SiteContext
from fednet.diffusion.sampler_config import ODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector, SamplerConfig
from fednet.federated.config import Adam, Federation, Krum, Median, Momentum, TrimmedMean
from fednet.federated.local_network import local_ask, local_network
from fednet.methods.novelty import services
from fednet.methods.novelty.config import NoveltyConfig
from fednet.methods.novelty.site import NoveltySite
from fednet.methods.novelty.validation import ClassifierValidation
from fednet.methods.score_inference.config import ArmConfig, RulePhase, SamplesConfig, ScoreInferenceConfig
from fednet.methods.score_inference.messages import read_score_capabilities
from fednet.methods.score_inference.sampling import ArmSamples, sample_arm
from fednet.methods.score_inference.site import ScoreInferenceSite
from fednet.rules import registry
from launch.engines.node_file import NodeFile
from nodes.compute import Bridge, ComputeThread
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.run import run_visit
from nodes.spec import NodeSpec
from nodes.transport.zmq import ZmqTransport
from protocol.quorum import QuorumPolicy

PATIENCE = 60.0
SEED = 5
NAMES = ("a1", "a2", "a3")
TINY = ScoreInferenceConfig.model_validate(
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
    "dpm-solver++": DPMSolver(steps=3),
    "heun": Heun(steps=2),
    "predictor-corrector": PredictorCorrector(steps=2),
}
SCHEDULE = (
    RulePhase(below=1.0, rule="mean"),
    RulePhase(below=0.7, rule="mixture", sites=("a1", "a3")),
    RulePhase(below=0.3, rule="label-count"),
)
ARMS: dict[str, str | tuple[RulePhase, ...]] = {name: name for name in registry.names("scores")}
ARMS["schedule"] = SCHEDULE
QUICK = {("mixture", "heun"), *((arm, "euler-maruyama") for arm in ARMS), *(("mean", sampler) for sampler in SAMPLERS)}
"""Every arm and every sampler once, and the arm that asks for divergences; `make test-slow` has all pairs."""
CASES = [
    pytest.param(arm, sampler, marks=() if (arm, sampler) in QUICK else pytest.mark.slow)
    for arm, rule in ARMS.items()
    for sampler, config in SAMPLERS.items()
    if not ArmConfig(rule=rule).refused_by(config)
]


@dataclass(frozen=True)
class Asked:
    """The agents' cards, the two ways to ask them, and what was drawn over the bus."""

    capabilities: Mapping[str, str]
    local: Ask
    over_bus: Ask
    drawn: dict[tuple[str, str], ArmSamples] = field(default_factory=dict)

    def draw_over_bus(self, arm: str, sampler: str) -> ArmSamples:
        """What the cluster draws; each arm with each sampler only once."""
        if (arm, sampler) not in self.drawn:
            self.drawn[arm, sampler] = self.draw(self.over_bus, arm, sampler)
        return self.drawn[arm, sampler]

    def draw(self, ask: Ask, arm: str, name: str) -> ArmSamples:
        """A sample of each of three labels; with guidance and in two batches where that costs little."""
        rule, sampler = ARMS[arm], SAMPLERS[name]
        costly = isinstance(sampler, ODE)
        return sample_arm(
            ArmConfig(rule=rule, guidance=1.0 if costly else 1.5),
            sampler,
            SamplesConfig(per_label=1, labels=(0, 4, 9), batch=None if costly else 2),
            name="arm",
            ask=ask,
            capabilities=read_score_capabilities(self.capabilities),
            seed=SEED,
            progress=NullProgress(),
        )


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The same number of threads on both sides."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def asked(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """The agents, and a cluster of them whose event loop runs on a thread of its own: here the solver runs."""
    folder = tmp_path_factory.mktemp("run")
    agents = {
        name: ScoreInferenceSite(TINY, SiteContext(name, k, len(NAMES), SEED, "cpu", folder))
        for k, name in enumerate(NAMES)
    }
    capabilities = {name: agent.prepare(NullProgress()) for name, agent in agents.items()}
    ready: Future[tuple[Ask, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    cluster = threading.Thread(
        target=lambda: asyncio.run(_cluster(agents, capabilities, folder, ready)), name="cluster"
    )
    cluster.start()
    over_bus, loop, stop = ready.result(PATIENCE)
    yield Asked(capabilities, local_ask(agents), over_bus)
    loop.call_soon_threadsafe(stop.set)
    cluster.join(PATIENCE)
    assert not cluster.is_alive()


async def _cluster(
    agents: Mapping[str, ScoreInferenceSite],
    capabilities: Mapping[str, str],
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
                node, compute = (
                    Node(NodeSpec(name, "client", "equal", listen, join=join), ZmqTransport()),
                    ComputeThread(name),
                )
                stack.callback(compute.close)
                responder, capability_publisher = QueryResponder(node, compute), CapabilityPublisher(node)
                node.add(responder)
                node.add(capability_publisher)
                await stack.enter_async_context(node)
                responder.open(agent, ("score",))
                capability_publisher.show(capabilities[name])
                first = first or node.address
            guest = Node(NodeSpec("guest", "guest", "equal", "tcp://127.0.0.1:0", join=(first,)), ZmqTransport())
            directory = PeerDirectory(guest, NAMES)
            requester = QueryClient(guest, directory, QuorumPolicy())
            guest.add(directory)
            guest.add(requester)
            await stack.enter_async_context(guest)
            assert await directory.complete(PATIENCE) == capabilities
            stop = asyncio.Event()
            bridge = Bridge()
            stack.callback(bridge.close)
            ask = partial(requester.ask_blocking, bridge)
            ready.set_result((ask, asyncio.get_running_loop(), stop))
            await stop.wait()
    except BaseException as error:
        if not ready.done():
            ready.set_exception(error)
        raise


@pytest.mark.parametrize(("arm", "sampler"), CASES)
def test_the_same_samples_come_over_the_bus(asked: Asked, arm: str, sampler: str) -> None:
    here = asked.draw(asked.local, arm, sampler)
    there = asked.draw_over_bus(arm, sampler)
    assert float((here.images - there.images).abs().max()) <= 1e-5
    assert float((here.log_p - there.log_p).abs().max()) <= 1e-5
    assert here.account == there.account
    assert here.evaluations == there.evaluations
    assert there.account.lost == {}
    assert {tally.contributed for tally in there.account.nodes.values()} == {there.account.steps}


def test_the_arms_differ_so_that_their_equality_says_something(asked: Asked) -> None:
    arms = [arm for arm in ARMS if arm != "geometric-mean"]  # of one particle a label: the mean
    drawn = [asked.draw_over_bus(arm, "euler-maruyama").images for arm in arms]
    assert len({tuple(images.flatten().tolist()) for images in drawn}) == len(arms)
    assert all(float(images.std()) > 0.1 for images in drawn)


SMALL = NoveltyConfig.model_validate(
    {
        "data": {"name": "digits", "limit": 240},
        "classifier": {"epochs": 1},
        "detector": {"unet": {"channels": [8], "groups": 4, "attention": False}, "train": {"steps": 2}},
        "disclose": {"evaluate": {"pictures": 2}},
    }
)
FEDERATIONS = {
    "mean": Federation(),
    "mean, sharded": Federation(transport="sharded"),
    "half of the sites": Federation(participation=0.5),
    "median, momentum": Federation(rule=Median(), server=Momentum()),
    "trimmed mean, Adam, sharded": Federation(rule=TrimmedMean(trim=0.34), server=Adam(), transport="sharded"),
    "krum": Federation(rule=Krum(byzantine=0)),
}


@dataclass(frozen=True)
class Trained:
    """What came of all that was asked for, by plan, and the models at the end."""

    closed: dict[str, tuple[RoundRecord, ...]]
    validated: dict[str, ClassifierValidation]
    models: dict[str, bytes]


def trains(network: Network, _progress: Progress) -> Trained:
    """One site trains alone and its model is set; rounds under every rule; the detector; copies averaged."""
    services.train(network, "0-4", nodes=["a1"], fresh=True)
    first = services.get_model(network, "a1")
    closed: dict[str, tuple[RoundRecord, ...]] = {"set": (services.set_model(network, first, key="set"),)}
    for name, federation in FEDERATIONS.items():
        closed[name] = services.run_training_rounds(
            network, {"a1": "0-3", "a2": "0-2,4", "a3": "5-9"}, key=name, federation=federation, rounds=2, mu=0.01
        )
    closed["detector"] = services.run_training_rounds(
        network, "0-4", key="detector", federation=Federation(transport="sharded"), model="detector", rounds=2
    )
    services.train(network, {"a2": "7-9"})
    closed["average"] = (services.average_models(network, key="average", federation=Federation()),)
    models = {f"{name} at {node}": services.get_model(network, node, name) for name in MODELS for node in NAMES}
    return Trained(closed, services.validate(network), {"set": first, **models})


MODELS = ("classifier", "detector")


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory, warm_python: Any) -> tuple[Trained, Trained]:
    """The same done within this process, and over the bus."""
    folder = tmp_path_factory.mktemp("here")
    agents = {
        name: NoveltySite(SMALL, SiteContext(name, k, len(NAMES), SEED, "cpu", folder)) for k, name in enumerate(NAMES)
    }
    capabilities = {name: agent.prepare(NullProgress()) for name, agent in agents.items()}
    assert all(isinstance(agent, Participant) for agent in agents.values())
    here = trains(local_network(agents, capabilities, SEED), NullProgress())
    return here, _over_the_bus(tmp_path_factory.mktemp("bus"), warm_python)


def _over_the_bus(folder: Path, warm_python: Any) -> Trained:
    """The sites as processes of their own, since torch's random numbers are a process's, and a guest that asks."""

    def spec(name: str, index: int = 0, *, guest: bool = False) -> NodeSpec:
        join = () if name == NAMES[0] else (f"ipc://{folder}/{NAMES[0]}.sock",)
        return NodeSpec(
            name, "guest" if guest else "client", "equal", f"ipc://{folder}/{name}.sock", join=join, expected=NAMES,
            index=index, count=len(NAMES), seed=SEED, folder=folder, method="novelty", config=SMALL,
        )  # fmt: skip

    sites = []
    for index, name in enumerate(NAMES):
        (folder / f"{name}.json").write_text(NodeFile.of(spec(name, index)).text())
        with (folder / f"{name}.log").open("w") as log:
            command = ["node", "--spec", str(folder / f"{name}.json")]
            streams = {"stdout": log.fileno(), "stderr": log.fileno()}
            sites.append(warm_python.start(command, cwd=folder, env=os.environ, **streams))
    try:
        return run_visit(spec("guest", guest=True), trains)
    finally:
        for site in sites:
            os.kill(site.pid, signal.SIGTERM)
        assert [site.wait(PATIENCE) for site in sites] == [0, 0, 0]


@pytest.mark.parametrize("plan", ["set", *FEDERATIONS, "detector", "average"])
def test_the_same_rounds_are_held_over_the_bus(trained: tuple[Trained, Trained], plan: str) -> None:
    for here, there in zip(*(one.closed[plan] for one in trained), strict=True):
        assert (here.number, here.digest, here.weights) == (there.number, there.digest, there.weights)
        assert here.values == there.values
        assert (there.late, there.lost, there.refused) == ((), {}, {})


def test_the_same_models_are_left_at_every_site(trained: tuple[Trained, Trained]) -> None:
    here, there = trained
    assert here.models == there.models
    assert here.validated == there.validated
    for name in MODELS:
        assert len({there.models[f"{name} at {node}"] for node in NAMES}) == 1


def test_the_programmes_differ_so_that_their_equality_says_something(trained: tuple[Trained, Trained]) -> None:
    digests = [record.digest for closed in trained[1].closed.values() for record in closed]
    assert len(set(digests)) == len(digests)
    assert len(trained[1].closed["half of the sites"][0].weights) == 2
