"""The method's commands: how labels are given, and what is refused before a cluster is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fednet.errors import UsageError
from fednet.methods.novelty import commands


class NoCluster:
    """A cluster that must not be asked."""

    console: Any = None

    def run(self, job: Any) -> Any:
        raise AssertionError("the cluster was asked")


@pytest.mark.parametrize(
    ("texts", "nodes", "expected"),
    [
        (["0-2"], (), (0, 1, 2)),
        (["0-2"], ("a1", "a3"), {"a1": (0, 1, 2), "a3": (0, 1, 2)}),
        (["a1=0-1", "a2=4"], (), {"a1": (0, 1), "a2": (4,)}),
    ],
)
def test_one_list_for_all_sites_or_one_for_each(texts: list[str], nodes: Sequence[str], expected: object) -> None:
    assert commands.label_lists(texts, nodes) == expected


@pytest.mark.parametrize(
    ("texts", "nodes"), [(["0", "1"], ()), (["a1=0", "1"], ()), (["a1=0"], ("a1",)), (["a1="], ())]
)
def test_lists_that_contradict_each_other_are_refused(texts: list[str], nodes: Sequence[str]) -> None:
    with pytest.raises(UsageError, match="--labels"):
        commands.label_lists(texts, nodes)


@pytest.mark.parametrize(
    ("name", "arguments", "argument"),
    [
        ("infer", {"image": Path("no-such.png")}, "no-such.png"),
        ("train", {"labels": ["0"], "epochs": 1, "steps": 1}, "--steps"),
        ("train", {"labels": ["0"], "model": "own-detector", "mu": 0.1}, "--model own-detector"),
        ("validate", {"labels": "3-1"}, "--labels 3-1"),
        ("calibrate", {"model": "detector"}, "--labels"),
        ("model get", {"file": Path("no/such/x.safetensors")}, "FILE no/such/x.safetensors"),
        ("model set", {"file": Path("no-such.safetensors")}, "no-such.safetensors"),
    ],
)
def test_wrong_arguments_are_refused_before_the_cluster_is_asked(
    name: str, arguments: dict[str, Any], argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        commands.COMMANDS[name](NoCluster(), **arguments)
    assert caught.value.argument == argument
    assert not list(tmp_path.iterdir())
