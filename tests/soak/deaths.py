"""SIGKILL of any member at random moments of rounds with streams: the result is that of those who are counted.

    python tests/soak/deaths.py [--kills 20] [--members 5] [--megabytes 4] [--secure] [--seed 0]

Every other victim is the leader. A moment is drawn from the time that an undisturbed round has taken. Each outcome is
computed again from the contributors that its record names; what members hold is read from their folders in the end.
A secure round need not have the same bits: its mean is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from cluster import Cluster, cluster

from fednet.api import RoundRecord
from fednet.federated.aggregation import aggregate
from fednet.federated.config import Federation
from fednet.federated.state import digest, model_tensors
from nodes.rounds.checkpoints import CheckpointStore

BOUND = 1e-4
"""By which a secure mean may differ in each round, far below any step."""
PATIENCE = 120.0
"""Seconds in which a round ends, deaths or not."""


def moved(state: Mapping[str, torch.Tensor], record: RoundRecord, members: Cluster) -> Mapping[str, torch.Tensor]:
    """What the contributors that a record names lead to."""
    states = {name: {"w": state["w"] + members.specs[name].index + 1} for name in record.weights}
    return model_tensors(aggregate(Federation(), dict(state), states, record.weights))


async def held(members: Cluster, key: str, federation: Mapping[str, Any]) -> RoundRecord:
    """One round."""
    async with asyncio.timeout(PATIENCE):
        (record,) = await members.run_rounds(key, 1, **federation)
    return record


async def run(kills: int, count: int, values: int, federation: Mapping[str, Any], seed: int) -> bool:
    """All deaths; whether every result was that of its contributors."""
    chance = random.Random(seed)  # noqa: S311 - replayable trouble, not secrets
    async with cluster(count, values=values) as members:
        records = [await held(members, "first", federation)]
        for turn in range(kills):
            await members.complete()
            began = time.monotonic()
            records.append(await held(members, f"quiet {turn}", federation))
            took, leader = time.monotonic() - began, records[-1].leader
            victim = leader if turn % 2 else chance.choice(sorted(set(members.specs) - {leader}))
            moment = chance.uniform(0, took)
            task = asyncio.create_task(held(members, f"killed {turn}", federation))
            await asyncio.sleep(moment)
            died = members.signal(victim, signal.SIGKILL)
            records.append(await task)
            counted = "counted" if victim in records[-1].weights else "not counted"
            sys.stdout.write(
                f"{turn + 1:3d}  {victim}{' (leads)' if victim == leader else ''} after {moment:.2f} of {took:.2f} s: "
                f"closed {time.monotonic() - died:.2f} s later with {len(records[-1].weights)}, the victim {counted}\n"
            )
            await members.start(victim)
        await members.complete()
        records.append(await held(members, "last", federation))
        await members.rounds_client.require_held()
        return check(members, records, secure=bool(federation.get("secure")))


def check(members: Cluster, records: list[RoundRecord], *, secure: bool) -> bool:
    """Whether every outcome is that of the contributors in its record, and everybody holds the last one."""
    state: Mapping[str, torch.Tensor] = {"w": torch.zeros(members.values)}
    same = 0
    for record in records:
        state = moved(state, record, members)
        same += digest(state) == record.digest
    stores = {name: CheckpointStore(spec.folder / name) for name, spec in members.specs.items()}
    ends = {store.checkpoints["walk"].version.outcome.digest for store in stores.values()}
    last = model_tensors(stores[min(stores)].checkpoints["walk"].state)["w"]
    error = float((last - state["w"]).abs().max())
    sys.stdout.write(
        f"{len(records)} rounds, {same} outcomes with the same bits as computed here; {len(ends)} held by "
        f"{len(stores)} members, {error:.2g} from the mean of the contributors\n"
    )
    return ends == {records[-1].digest} and (error <= BOUND * len(records) if secure else same == len(records))


def main() -> None:
    """Kills, prints, and ends with 1 where a result is not that of its contributors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=4)
    parser.add_argument("--secure", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    federation = {"transport": "sharded", "secure": {"clip": 16.0} if options.secure else None}
    values = options.megabytes << 18
    fine = asyncio.run(run(options.kills, options.members, values, federation, options.seed))
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
