"""A launch of cmtii: the same results over sockets as in one process, and only embeddings travel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fednet.api import NullProgress, SiteContext
from fednet.federated.local_network import local_network
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.job import run_job
from fednet.methods.cmtii.site import CmtiiSite

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

PRETRAINING = {"steps": 3, "batch": 8, "lr": 0.001}
SETTINGS: dict[str, Any] = {
    "partition": {"kind": "pathological", "classes_per_client": 4, "train_ratio": 0.75},
    "backend": {
        "kind": "embedded",
        "clip": {"vision": 16, "vision_layers": 1, "text_layers": 1, "pretraining": PRETRAINING},
        "image_generator": {"channels": [8], "steps": 2, "pretraining": PRETRAINING},
    },
    "learn": {"steps": 3, "batch": 8},
    "tune": {"generated": 6, "steps": 3, "batch": 8, "rank": 2},
    "report": {"views": 2},
    "disclose": {"evaluate": {}, "leakage": {}},
}
CLUSTER = {"name": "words", "method": "cmtii", "seed": 3, "nodes": 3, "devices": {"threads": 1}}
COMPARED = ("arms", "local", "central", "counts", "words", "evaluations")


@pytest.fixture(scope="module")
def launched(terminal: Any) -> Path:
    (terminal.folder / "words.yaml").write_text(yaml.safe_dump({**CLUSTER, **SETTINGS}))
    command = terminal.run("launch", "words.yaml", "--out", "runs")
    assert command.code == 0, command.out + command.err
    return terminal.folder / "runs" / "words"


def numbers(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def test_the_bus_gives_the_results_of_one_process(launched: Path, tmp_path: Path) -> None:
    config, before = CmtiiConfig.model_validate(SETTINGS), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sites = {f"a{k + 1}": CmtiiSite(config, SiteContext(f"a{k + 1}", k, 3, 3, "cpu", tmp_path)) for k in range(3)}
        capabilities = {name: site.prepare(NullProgress()) for name, site in sites.items()}
        run_job(config, local_network(sites, capabilities, 3), tmp_path, 3, NullProgress())
    finally:
        torch.set_num_threads(before)
    here, there = numbers(tmp_path), numbers(launched)
    assert {key: here[key] for key in COMPARED} == {key: there[key] for key in COMPARED}


def test_the_wire_carries_little_more_than_the_words(launched: Path) -> None:
    found = numbers(launched)
    for site, sent in found["bytes"].items():
        words = found["words"][site]
        assert sent["words"] == 64 * words
        assert 64 * words < sent["wire"] < (64 + 256) * words


def test_models_are_pretrained_once_for_all_sites(launched: Path) -> None:
    assert len(list((launched / "models").glob("*.safetensors"))) == 2


def test_the_report_shows_what_was_generated(launched: Path) -> None:
    page = (launched / "report.html").read_text()
    assert "generated from received words" in page
    assert "Accuracy over all classes" in page
