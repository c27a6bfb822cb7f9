"""The same round elsewhere: Flower's simulation (on ray) and hivemind's averaging, where the extra `bench` has them.

    pip install "fednet[bench]"  # in an environment of its own: Flower wants older versions than constraints.txt has
    python tests/benchmarks/others.py [--kinds flower hivemind] [--peers 4] [--megabytes 16] [--rounds 8]

As in `bench_round`, a peer adds to its model, or sets it, and all end with the mean; nothing is trained. What is
compared is not the same service: Flower's peers are workers of one machine that a server hands the model to,
hivemind's find their group anew for every average, and neither has its peers agree on the bytes. Both come without
targets: the figures only say in which order of magnitude a round is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from rich.console import Console

os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0", HIVEMIND_LOGLEVEL="ERROR")
os.environ.update(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")

MATCHMAKING = 1.0
"""Seconds that hivemind's peers look for each other at most; a full group begins sooner. Its default is 5."""


def flower(peers: int, megabytes: int, rounds: int) -> list[float]:
    """Seconds of each round but the first of Flower's FedAvg, all peers in workers of ray at once."""
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    client, server = ClientApp(), ServerApp()
    times, found = list[float](), list[float]()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        w = message.content["arrays"].to_numpy_ndarrays()[0].copy()
        w += 1
        parts = {"arrays": ArrayRecord([w]), "metrics": MetricRecord({"num-examples": 1})}
        return Message(content=RecordDict(parts), reply_to=message)

    def closed(number: int, arrays: ArrayRecord) -> None:
        times.append(time.perf_counter())
        if number > rounds:
            found.append(float(arrays.to_numpy_ndarrays()[0][0]))

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=peers, min_available_nodes=peers)
        begin = ArrayRecord([np.zeros(megabytes << 18, np.float32)])
        strategy.start(grid, begin, num_rounds=rounds + 1, evaluate_fn=closed)

    workers = {"client_resources": {"num_cpus": (os.cpu_count() or 1) / peers, "num_gpus": 0.0}}
    run_simulation(server, client, peers, backend_config=workers)
    if found != [rounds + 1.0]:
        raise SystemExit(f"flower: the mean is {found} after {rounds + 1} rounds that add 1")
    return [after - before for before, after in pairwise(times[1:])]


def hivemind(peers: int, megabytes: int, rounds: int) -> list[float]:
    """Seconds of each averaging but the first, from the word to begin until the last peer has the mean."""
    from hivemind import DHT
    from hivemind.averaging import DecentralizedAverager

    first = DHT(start=True)
    tables = [first, *(DHT(initial_peers=first.get_visible_maddrs(), start=True) for _ in range(peers - 1))]
    averagers = [
        DecentralizedAverager(
            [torch.zeros(megabytes << 18)],
            table,
            prefix="bench",
            target_group_size=peers,
            min_group_size=peers,
            min_matchmaking_time=MATCHMAKING,
            request_timeout=MATCHMAKING / 2,
            start=True,
        )
        for table in tables
    ]

    def turn(place: int) -> None:
        with averagers[place].get_tensors() as tensors:
            tensors[0].fill_(place)
        if len(averagers[place].step(timeout=60) or {}) != peers:
            raise SystemExit("hivemind: not everybody took part")

    taken = []
    with ThreadPoolExecutor(peers) as pool:
        for _ in range(rounds + 1):
            begun = time.perf_counter()
            list(pool.map(turn, range(peers)))
            taken.append(time.perf_counter() - begun)
    with averagers[0].get_tensors() as tensors:
        if float(tensors[0][0]) != sum(range(peers)) / peers:
            raise SystemExit(f"hivemind: the mean is {float(tensors[0][0])}")
    for each in [*averagers, *tables]:
        each.shutdown()
    return taken[1:]


KINDS: dict[str, tuple[Callable[[int, int, int], list[float]], tuple[str, ...]]] = {
    "flower": (flower, ("flwr", "ray")),
    "hivemind": (hivemind, ("hivemind",)),
}
"""What can be measured, and the packages it takes."""


def main() -> None:
    """Measures what is installed, and says what is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--megabytes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    console = Console()
    for kind in arguments.kinds:
        measure, packages = KINDS[kind]
        if missing := [package for package in packages if find_spec(package) is None]:
            what = " and ".join(missing)
            console.print(f"{kind}: not measured, {what} not installed (pip install 'fednet[bench]')", markup=False)
            continue
        taken = measure(arguments.peers, arguments.megabytes, arguments.rounds)
        median, fastest, slowest = (1e3 * of(taken) for of in (statistics.median, min, max))
        console.print(
            f"{kind}: {arguments.peers} peers x {arguments.megabytes} MB, {len(taken)} rounds, "
            f"median {median:.0f} ms (fastest {fastest:.0f}, slowest {slowest:.0f})"
        )


if __name__ == "__main__":
    main()
