"""What a node says for itself is checked against its method, with the line and the key that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.config.schema import load_config
from launch.errors import ConfigError

BASE = "name: x\nmethod: score-inference\n"


def loaded(folder: Path, text: str) -> object:
    path = folder / "cluster.yaml"
    path.write_text(BASE + text)
    return load_config(path)


def test_a_node_may_bring_a_model_whose_path_is_relative_to_the_file(tmp_path: Path) -> None:
    text = "nodes: {a: {model: {kind: diffusers, path: mine}}, b: {model: {channels: [8]}}, c: {}}\n"
    entries = loaded(tmp_path, text).cluster.entries  # type: ignore[attr-defined]
    assert entries["a"].own_sections == {"model": {"kind": "diffusers", "path": str(tmp_path / "mine")}}
    assert entries["b"].own_sections == {"model": {"channels": [8]}}
    assert entries["c"].own_sections == {}


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("{a: {model: {chanels: [8]}}}", r"nodes\.a\.model\.chanels: .*Did you mean channels\?"),
        ("{a: {model: {kind: diffusers}}}", r"nodes\.a\.model\.path: expected this key, got nothing"),
        ("{a: {model: {kind: diffusers, path: x, range: [1, 0]}}}", r"nodes\.a\.model\.range"),
        (
            "{a: {model: {kind: energy}}}",
            r"nodes\.a\.model\.kind: expected one of 'unet', 'diffusers', 'python', got 'energy'",
        ),
        ("{a: {model: {kind: python, object: nothing, shape: [1, 4, 4]}}}", r"nodes\.a\.model\.object"),
        ("{a: {data: {nam: mnist}}}", r"nodes\.a\.data\.nam.*Did you mean name\?"),
    ],
)
def test_mistakes_are_named_by_key_and_line(tmp_path: Path, nodes: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        loaded(tmp_path, f"nodes: {nodes}\n")
    assert f"{tmp_path / 'cluster.yaml'}:3" in str(refused.value)


def test_a_method_that_takes_no_model_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("name: x\nmethod: private-gan\nnodes: {a: {model: {latent: 3}}, b: {}}\n")
    with pytest.raises(ConfigError, match=r"nodes\.a\.model: The method private-gan takes no model of its own"):
        load_config(path)
