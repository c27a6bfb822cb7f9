"""What drawing over the bus costs beside the sites' networks alone: batches one after the other, and in flight.

Every site is a process with a device of its own. A machine has not as many devices as sites, so by default the device
is simulated: an evaluation takes a fixed time in which it wants no core, as a GPU does. `--device cpu` computes an
untrained network on one core instead, which means something with one site and two idle cores. Federated is the whole
drawing of an arm by `mixture`: questions, answers, the rule, the sampler. Alone is the same number of evaluations of
the same batches on the site's device, in its process, without a question; of several sites the slowest counts. Both
alternate in one run. Our bound is a ratio of 1.05 with batches in flight.

    python tests/benchmarks/bench_sampling.py [--sites 1 2 4] [--device 20] [--batch 16] [--batches 4] [--in-flight 1 2]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from bench_query import spec
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fednet.api import NullProgress, Question
from fednet.diffusion.expert import ExpertCard
from fednet.diffusion.sampler_config import EulerMaruyama
from fednet.diffusion.sde import VP
from fednet.methods.score_inference.config import ArmConfig, SamplesConfig
from fednet.methods.score_inference.messages import ScoreCapabilities
from fednet.methods.score_inference.sampling import sample_arm
from fednet.models.config import UNetConfig
from fednet.models.unet import ScoreNet
from nodes.compute import Bridge, ComputeThread
from nodes.node import Node
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.transport.zmq import ZmqTransport
from protocol.quorum import QuorumPolicy

SHAPE = (3, 32, 32)
BOUND = 1.05
SDE = VP()
CARD = ExpertCard(kind="python", network="bench", prediction="score", schedule="none")
SITE = ScoreCapabilities(
    pictures=1, histogram=(), classes=(), shape=SHAPE, conditional=False, sde=SDE, expert=CARD
)  # fmt: skip


class Device:
    """A site's responder: the score of a normal density after a fixed time, or that of a network.

    Args:
        milliseconds: of an evaluation; None for the network.
    """

    def __init__(self, milliseconds: float | None) -> None:
        self._seconds = None if milliseconds is None else milliseconds / 1e3
        self._net = ScoreNet(UNetConfig(), SDE, SHAPE, 0) if milliseconds is None else None

    def prepare(self, progress: object) -> str:
        """Nothing to do."""
        return "{}"

    @torch.no_grad()
    def answer(self, question: Question) -> Mapping[str, Tensor]:
        """One evaluation."""
        x = question.inputs["x"]
        if self._net is not None:
            return {"score": self._net.score(x, torch.tensor(float(question.options["t"] or 0.0)))}
        time.sleep(self._seconds or 0.0)
        return {"score": -x}


def site(name: str, join: str, milliseconds: float | None, pipe: Connection) -> None:
    """One site's process."""
    torch.set_num_threads(1)
    asyncio.run(_site(name, join, Device(milliseconds), pipe))


async def _site(name: str, join: str, device: Device, pipe: Connection) -> None:
    compute, node = ComputeThread(name), Node(spec(name, "client", "", (join,)), ZmqTransport())
    responder, capabilities = QueryResponder(node, compute), CapabilityPublisher(node)
    node.add(responder)
    node.add(capabilities)
    async with node:
        responder.open(device, ("score",))
        capabilities.show("{}")
        while wanted := await asyncio.to_thread(pipe.recv):
            pipe.send(await compute.run(partial(alone, device, *wanted)))
    compute.close()


def alone(device: Device, evaluations: int, batch: int) -> float:
    """Seconds of so many evaluations of batches, one after the other."""
    question, begun = Question("score", {"x": torch.randn(batch, *SHAPE)}, {"t": 0.5}), time.perf_counter()
    for _ in range(evaluations):
        device.answer(question)
    return time.perf_counter() - begun


async def measure(sites: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a number of sites."""
    processes, names = multiprocessing.get_context("forkserver"), tuple(f"a{index + 1}" for index in range(sites))
    node = Node(spec("asker", "guest", "", expected=names), ZmqTransport())
    directory = PeerDirectory(node, names)
    client = QueryClient(node, directory, QuorumPolicy())
    node.add(directory)
    node.add(client)
    pipes, workers = [], []
    async with node:
        for name in names:
            here, there = processes.Pipe()
            milliseconds = None if options.device == "cpu" else float(options.device)
            workers.append(processes.Process(target=site, args=(name, node.address, milliseconds, there), daemon=True))
            workers[-1].start()
            pipes.append(here)
        await directory.complete(120)
        solver, ask = ComputeThread("solver"), partial(client.ask_blocking, Bridge())
        taken: dict[int, list[float]] = {most: [] for most in options.in_flight}
        by_itself, evaluations = list[float](), 0
        for block in range(options.blocks + 1):
            for most in options.in_flight:
                seconds, evaluations = await solver.run(partial(draw, ask, names, most, options))
                taken[most] += [seconds] if block else []  # the first warms up
            for pipe in pipes:
                pipe.send((evaluations * options.batches, options.batch))
            slowest = max([await asyncio.to_thread(pipe.recv) for pipe in pipes])
            by_itself += [slowest] if block else []
        for pipe in pipes:
            pipe.send(None)
    solver.close()
    for process in workers:
        process.join(10)
    base = statistics.median(by_itself)
    return [
        {
            "sites": sites, "in_flight": most, "evaluations": evaluations * options.batches, "alone_s": base,
            "federated_s": statistics.median(values), "ratio": statistics.median(values) / base,
        }
        for most, values in taken.items()
    ]  # fmt: skip


def draw(ask: Any, names: tuple[str, ...], most: int, options: argparse.Namespace) -> tuple[float, int]:
    """Seconds of drawing all batches, and the evaluations of each."""
    samples = SamplesConfig(total=options.batch * options.batches, batch=options.batch, in_flight=most)
    begun = time.perf_counter()
    drawn = sample_arm(
        ArmConfig.model_validate({"rule": "mixture"}), EulerMaruyama(steps=options.steps), samples, name="bench",
        ask=ask, capabilities=dict.fromkeys(names, SITE), seed=0, progress=NullProgress(),
    )  # fmt: skip
    return time.perf_counter() - begun, drawn.evaluations


def show(rows: list[dict[str, Any]], device: str) -> None:
    """Prints the table, and how busy the machine was."""
    table = Table("sites", "in flight", "evaluations", "alone s", "federated s", "ratio", "bound")
    for row in rows:
        table.add_row(
            str(row["sites"]), str(row["in_flight"]), str(row["evaluations"]), f"{row['alone_s']:.2f}",
            f"{row['federated_s']:.2f}", f"{row['ratio']:.3f}", f"<= {BOUND}" if row["in_flight"] > 1 else "-",
        )  # fmt: skip
    Console().print(table)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    Console().print(f"device: {device if device == 'cpu' else f'{device} ms an evaluation'}; load average {load}")


def main() -> None:
    """Measures and prints; `--json FILE` keeps the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="20", help="milliseconds of an evaluation, or cpu")
    parser.add_argument("--batch", type=int, default=16, help="samples in a batch")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--blocks", type=int, default=3, help="repetitions of every drawing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for sites in options.sites for row in asyncio.run(measure(sites, options))]
    show(rows, options.device)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
