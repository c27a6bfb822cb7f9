"""`fednet score-inference sample`: what is asked for, where the picture goes, and what is refused at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from fednet.errors import UsageError
from fednet.methods.score_inference import commands, sampling
from fednet.reporting.samples import SampleBatch


class Cluster:
    """A cluster whose answer is a batch of grey pictures."""

    def __init__(self) -> None:
        self.printed: list[str] = []
        self.console: Any = SimpleNamespace(print=lambda text, **_: self.printed.append(text))

    def run(self, job: Any) -> Any:
        return job("the network", "the progress")


def test_a_prompt_becomes_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def draw(network: object, request: Any, progress: object, *, prompt: Any) -> SampleBatch:
        asked.append((request, prompt))
        return SampleBatch(torch.zeros(request.count, 3, 16, 16), None, ("a answered 3 of 3 queries",))

    monkeypatch.setattr(sampling, "sample", draw)
    cluster = Cluster()
    commands.sample(cluster, prompt="a cat", models=tmp_path, count=2, output=tmp_path / "x.png")
    ((request, prompt),) = asked
    assert (request.count, request.guidance, request.sampler, request.rule.kind) == (2, 7.5, "dpm-solver++", "mixture")
    assert (prompt.text, prompt.negative, prompt.models) == ("a cat", "", tmp_path)
    assert Image.open(tmp_path / "x.png").size[0] >= 16
    assert cluster.printed[0] == "a answered 3 of 3 queries"


@pytest.mark.parametrize(
    ("given", "argument"),
    [({"output": Path("no/such/x.png")}, "--output"), ({"sampler": "ddim"}, "--sampler")],
)
def test_wrong_arguments_are_refused_before_the_cluster_is_asked(
    given: dict[str, Any], argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=argument):
        commands.sample(Cluster(), prompt="a cat", models=tmp_path, **given)
