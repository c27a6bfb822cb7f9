"""A detector's file, and the files that only look like one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fednet.diffusion.sde import VP
from fednet.errors import ModelError
from fednet.methods.novelty.checkpoint import METADATA_KEY, read_detector, write_detector
from fednet.methods.novelty.detector import Detector
from fednet.models.config import UNetConfig
from fednet.models.lenet import LeNet
from fednet.models.unet import ScoreNet


def network() -> ScoreNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ScoreNet(UNetConfig(channels=(8,), groups=4, attention=False), VP(), (1, 8, 8), 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "detector.safetensors"
    write_detector(path, network(), LeNet(), {"seed": 1, "b": [1, None], "a": 0.1})
    return path


def described(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()[METADATA_KEY])
    return found


def rewritten(path: Path, description: object, tensors: Any = None) -> Path:
    save_file(tensors or load_file(path), path, metadata={METADATA_KEY: json.dumps(description)})
    return path


def test_networks_and_facts_come_back_frozen(path: Path) -> None:
    net, classifier, facts = read_detector(path)
    assert facts == {"seed": 1, "b": [1, None], "a": 0.1}
    assert net.describe() == network().describe()
    for name, value in network().state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
    assert classifier is not None
    assert not any(p.requires_grad or p.is_meta for part in (net, classifier) for p in part.parameters())
    assert not net.training
    x = torch.zeros(2, 1, 8, 8)
    assert torch.equal(net.score(x, torch.tensor(0.3)), network().eval().score(x, torch.tensor(0.3)).detach())


def test_equal_content_is_equal_bytes(path: Path) -> None:
    before = path.read_bytes()
    net, classifier, facts = read_detector(path)
    for _ in range(5):
        write_detector(path, net, classifier, dict(reversed(facts.items())))
        assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 8 + b"{}", b"\x80\x04K\x01."], ids=len)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ModelError, match="give a detector that Detector"):
        read_detector(tmp_path / "file")
    with pytest.raises(ModelError, match="give a detector that Detector"):
        read_detector(tmp_path / "missing")


def test_a_cut_file_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in (7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match="give a detector that Detector"):
            read_detector(path)


HOSTILE: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "deep": "deep",
    "other network": {"network.network": "resnet"},
    "huge width": {"network.channels": [10**9]},
    "many levels": {"network.channels": [8] * 1000},
    "many layers": {"network.layers": 10**6},
    "huge picture": {"network.shape": [1, 10**9, 10**9]},
    "no picture": {"network.shape": [1, 0, 8]},
    "many classes": {"network.classes": 10**9},
    "no groups": {"network.groups": 0},
    "unfit groups": {"network.groups": 3},
    "unknown SDE": {"network.sde": {"kind": "ode"}},
    "unknown key": {"network.path": "/etc/passwd"},
    "huge classifier": {"classifier.classes": 10**9},
    "impossible dropout": {"classifier.dropout": 7.0},
    "facts are no facts": {"facts": 3},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_a_description_that_asks_for_too_much_or_nonsense_is_refused(path: Path, changes: Any) -> None:
    description: Any = described(path)
    if not isinstance(changes, dict):
        description = changes
    else:
        for place, value in changes.items():
            *parents, last = place.split(".")
            inner = description
            for key in parents:
                inner = inner[key]
            inner[last] = value
    with pytest.raises(ModelError):
        read_detector(rewritten(path, description))


def test_a_note_that_is_no_json_is_refused(path: Path) -> None:
    tensors = load_file(path)
    for text in ("{", "[" * 100_000, "NaN"):
        save_file(tensors, path, metadata={METADATA_KEY: text})
        with pytest.raises(ModelError):
            read_detector(path)
    save_file(tensors, path)
    with pytest.raises(ModelError):
        read_detector(path)


def test_weights_that_do_not_fit_the_description_are_refused(path: Path) -> None:
    description, good = described(path), load_file(path)
    name = "net.unet.conv_in.weight"
    bad = [
        {key: value for key, value in good.items() if key != name},
        {**good, "net.extra": torch.zeros(1)},
        {**good, "other": torch.zeros(1)},
        {**good, name: good[name][:1]},
        {**good, name: good[name].double()},
        {**good, name: good[name] * float("nan")},
    ]
    for tensors in bad:
        with pytest.raises(ModelError, match="does not hold the weights"):
            read_detector(rewritten(path, description, tensors))
    read_detector(rewritten(path, description, good))


def test_a_detector_that_does_not_say_how_it_looks_is_refused(path: Path) -> None:
    with pytest.raises(ModelError, match="how its detector looks"):
        Detector.load(path)
    description = described(path)
    for facts in ({"threshold": float("inf")}, {"threshold": "1"}, {"config": {"steps": 10**9}}, {"path": "/etc"}):
        good = {"config": {"mask": "alternating"}, "threshold": 1.0, "seed": 0}
        with pytest.raises(ModelError, match="how its detector looks"):
            Detector.load(rewritten(path, {**description, "facts": {**good, **facts}}))
        assert Detector.load(rewritten(path, {**description, "facts": good})).threshold == 1.0
    write_detector(path, network(), None, {"config": {"distance": "perceptual"}, "threshold": 0.1, "seed": 0})
    with pytest.raises(ModelError, match="classifier"):
        Detector.load(path)
