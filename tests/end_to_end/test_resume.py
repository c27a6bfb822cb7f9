"""A whole run is killed and resumed: it goes on to the result of an undisturbed one, whatever the method."""

from __future__ import annotations

import json
import random
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fednet.privacy.disclosures import SUFFIX

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PRIVATE = """\
name: private
method: private-gan
seed: 3
nodes: 3
devices: {threads: 1}
data: {name: digits, limit: 120}
model: {latent: 8, width: 16}
train: {steps: 4, rate: 0.1, critic_steps: 2}
rounds: 6
privacy: {noise: 1.0, seeded: true}
report: {every: 2, samples: 40}
"""

WORDS = """\
name: words
method: cmtii
seed: 3
nodes: 3
devices: {threads: 1}
partition: {kind: pathological, classes_per_client: 4, train_ratio: 0.75}
backend:
  kind: embedded
  clip: {vision: 16, vision_layers: 1, text_layers: 1, pretraining: {steps: 3, batch: 8, lr: 0.001}}
  image_generator: {channels: [8], steps: 2, pretraining: {steps: 3, batch: 8, lr: 0.001}}
rounds: 2
learn: {steps: 3, batch: 8}
tune: {generated: 6, steps: 3, batch: 8, rank: 2}
report: {views: 2}
disclose: {evaluate: {}, leakage: {}}
"""

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
gan: {rounds: 4, steps: 2, batch: 8, first: 1}
measure: {judge_steps: 2}
report: {every: 2, per_class: 34}
"""

METHODS = {
    "score-inference": ("tiny.yaml", "tiny", ("train.epochs=3",)),
    "novelty": ("novel.yaml", "novel", ("flow.rounds=2", "flow.detector_rounds=6")),
    "private-gan": ("private.yaml", "private", ()),
    "regression": ("regression", "regression", ("devices.threads=1",)),
    "cmtii": ("words.yaml", "words", ()),
    "fedbagan": ("rare.yaml", "rare", ()),
}
"""By method: what is launched, the name of its run, and what is set."""

UNSTEADY = frozenset({"seconds", "leader", "answer_ms", "disclosed"})
"""Keys of what tells of time, of the duty to lead, and of what a site had disclosed before it was started (again)."""


@pytest.fixture(scope="module")
def start(terminal: Any) -> Any:
    """Starts `fednet launch` of a method, with options."""
    for name, text in (("private", PRIVATE), ("words", WORDS), ("rare", RARE)):
        (terminal.folder / f"{name}.yaml").write_text(text)

    def started(method: str, out: str, *options: str) -> Any:
        config, name, settings = METHODS[method]
        given = [part for setting in settings for part in ("--set", setting)]
        command = terminal.start("launch", config, "--out", out, *given, *options)
        command.run = terminal.folder / out / name
        return command

    return started


@pytest.fixture(scope="module")
def whole(start: Any) -> Any:
    """An undisturbed run of each method, once."""
    runs: dict[str, Any] = {}

    def ended(method: str) -> Any:
        if method not in runs:
            runs[method] = start(method, "whole")
            assert runs[method].ends() == 0, runs[method].err
        return runs[method]

    return ended


def steady(value: Any) -> Any:
    """A result without what may differ between two runs."""
    if isinstance(value, dict):
        return {key: steady(each) for key, each in value.items() if key not in UNSTEADY}
    return [steady(each) for each in value] if isinstance(value, list) else value


LEFT = ("samples/**/*.*", "sites/**/*.*", "models/*.safetensors", "checkpoints/*.safetensors", "real.png")
"""Files that a run leaves, whose bytes must be the same; what a killed process was about to write is hidden."""


def results(run: Path) -> dict[str, Any]:
    """The numbers of a run and the digests of the files that it leaves."""
    files = sorted(path for pattern in LEFT for path in run.glob(pattern) if not path.name.startswith("."))
    left = {str(path.relative_to(run)): sha256(path.read_bytes()).hexdigest() for path in files}
    return {"metrics": steady(json.loads((run / "metrics.json").read_text())), **left}


def entries(run: Path) -> dict[str, Counter[str]]:
    """How often each work stands in each site's privacy ledger; disclosures are another one."""
    ledgers = (path for path in sorted(run.glob("privacy/*.json")) if not path.name.endswith(SUFFIX))
    books = {path.stem: json.loads(path.read_text())["entries"] for path in ledgers}
    return {site: Counter(entry["key"] for entry in book) for site, book in books.items()}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_to_the_result_of_an_undisturbed_one(
    start: Any, whole: Any, method: str, seed: int
) -> None:
    """Everybody gets SIGKILL at a moment drawn among the words of progress of the undisturbed run.

    How many words there are depends on the machine: a run that has said fewer has ended by then, and resumes, too.
    """
    undisturbed = whole(method)
    moment = random.Random(seed).randint(1, len(undisturbed.happened("progress")) - 1)  # noqa: S311
    killed = start(method, f"killed-{seed}")
    killed.until(lambda: len(killed.happened("progress")) >= moment or killed.process.poll() == 0, f"word {moment}")
    killed.kill()
    paid = entries(killed.run)
    again = start(method, f"killed-{seed}", "--resume")
    assert again.ends() == 0, again.err
    assert results(again.run) == results(undisturbed.run)
    assert entries(again.run) == entries(undisturbed.run)
    for site, book in entries(again.run).items():
        assert set(book.values()) == {1}
        assert paid.get(site, Counter()) <= book
