"""The balancing GAN as a user launches it: the bus gives what one process gives, and a live cluster draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fednet.api import NullProgress, SiteContext
from fednet.federated.local_network import local_network
from fednet.methods.fedbagan.job import run_job
from fednet.methods.fedbagan.site import FedBaganSite
from launch.config.schema import load_config

pytestmark = pytest.mark.timeout(300)

RARE = """\
name: rare
method: fedbagan
seed: 3
nodes: 3
devices: {threads: 1}
data: {name: digits, limit: 1000}
partition: {kind: homogeneous, imbalance: {7: 0.5}}
model: {latent: 4, width: 4}
autoencoder: {rounds: 2, steps: 4, batch: 8}
gan: {rounds: 2, steps: 2, batch: 8, first: 1}
baseline: false
measure: {judge_steps: 2}
report: {every: 2, per_class: 34}
"""


@pytest.fixture(scope="module")
def folder(terminal: Any) -> Path:
    (terminal.folder / "rare.yaml").write_text(RARE)
    return terminal.folder


@pytest.fixture(scope="module")
def served(terminal: Any, folder: Path) -> tuple[Any, str]:
    """A cluster that has done its job and stays up, and an address to join it through."""
    launched = terminal.start("launch", "rare.yaml", "--out", "runs", "--serve")
    address = launched.says(r"join through (\S+)")
    launched.says(r"report: \S+")
    return launched, address


def test_over_the_bus_everything_is_as_in_one_process(served: tuple[Any, str], folder: Path, tmp_path: Path) -> None:
    there = json.loads((folder / "runs" / "rare" / "metrics.json").read_text())
    loaded = load_config(str(folder / "rare.yaml"))
    config: Any = loaded.method
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sites = {
            f"a{k + 1}": FedBaganSite(config, SiteContext(f"a{k + 1}", k, 3, 3, "cpu", tmp_path)) for k in range(3)
        }
        capabilities = {name: one.prepare(NullProgress()) for name, one in sites.items()}
        run_job(config, local_network(sites, capabilities, 3), tmp_path, 3, NullProgress())
    finally:
        torch.set_num_threads(threads)
    here = json.loads((tmp_path / "metrics.json").read_text())
    for model, held in here["rounds"].items():
        assert [one["digest"] for one in held] == [one["digest"] for one in there["rounds"][model]]
    assert here["arms"] == there["arms"]


def test_a_live_cluster_and_its_checkpoint_draw_the_same_files(
    served: tuple[Any, str], terminal: Any, folder: Path
) -> None:
    _, address = served
    live = terminal.call("sample", "--join", address, "--labels", "7", "-n", "3", "-o", "live")
    assert live.code == 0, live.err
    assert "3 pictures by a1" in live.out
    best = "runs/rare/checkpoints/best.safetensors"
    kept = terminal.call("sample", "--checkpoint", best, "--labels", "7", "-n", "3", "-o", "kept")
    assert kept.code == 0, kept.err
    for index in range(3):
        pictures = [(folder / place / "7" / f"{index:05d}.png").read_bytes() for place in ("live", "kept")]
        assert pictures[0] == pictures[1]
    with Image.open(folder / "live" / "7" / "00000.png") as picture:
        assert picture.size == (8, 8)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--labels", "12"), 4, "labels names the class '12'; the classes are 0, 1"),
        (("--set", "rule=mean"), 2, "--set rule=mean: rule: expected one of the keys labels, count, seed"),
        (("-n", "99999"), 4, "cannot be generated at once"),
        (("-o", "nowhere/grid.png"), 2, "a file in a folder that exists"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_message(
    served: tuple[Any, str], terminal: Any, arguments: tuple[str, ...], code: int, said: str
) -> None:
    refused = terminal.call("sample", "--join", served[1], *arguments)
    assert refused.code == code
    assert said in refused.err
    assert len(refused.err.strip().splitlines()) <= 3


def test_a_checkpoint_of_another_method_is_refused(terminal: Any, folder: Path) -> None:
    (folder / "other.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    refused = terminal.call("sample", "--checkpoint", "other.safetensors")
    assert refused.code == 2
    assert "--checkpoint other.safetensors: expected a checkpoint of one of the methods" in refused.err
    refused = terminal.call("sample", "--checkpoint", "other.safetensors", "--method", "fedbagan")
    assert refused.code == 4
    assert "other.safetensors cannot be used (no entry 'fedbagan'): give a checkpoint of fedbagan" in refused.err
    both = terminal.call("sample")
    assert both.code == 2
    assert "either --join ADDRESS or --checkpoint FILE" in both.err


@pytest.mark.slow
@pytest.mark.usefixtures("served")
def test_behind_a_secure_sum_the_moments_are_summed_too(terminal: Any, folder: Path) -> None:
    settings = ("--set", "federation={secure: {}}", "--set", "name=sealed")
    launched = terminal.run("launch", "rare.yaml", "--out", "runs", *settings)
    assert launched.code == 0, launched.out + launched.err
    metrics = json.loads((folder / "runs" / "sealed" / "metrics.json").read_text())
    assert set(metrics["rounds"]["moments"][0]["weights"]) == {"a1", "a2", "a3"}
    plain = json.loads((folder / "runs" / "rare" / "metrics.json").read_text())
    apart = abs(metrics["arms"]["AE-only"]["frechet"] - plain["arms"]["AE-only"]["frechet"])
    assert apart < 0.05 * plain["arms"]["AE-only"]["frechet"]
