"""A whole run is killed and resumed: it goes on to the result of an undisturbed one, whatever the method."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

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

METHODS = {
    "score-inference": ("tiny.yaml", "tiny", ("train.epochs=3",)),
    "novelty": ("novel.yaml", "novel", ("flow.rounds=2", "flow.detector_rounds=6")),
    "private-gan": ("private.yaml", "private", ()),
    "regression": ("regression", "regression", ("devices.threads=1",)),
}
"""By method: what is launched, the name of its run, and what is set."""

UNSTEADY = frozenset({"seconds", "lead", "answer_ms", "privacy", "epsilon_rdp", "epsilon_prv"})
"""Keys of numbers that tell of time, of the duty to lead, and of what an interrupted attempt has cost."""


@pytest.fixture(scope="module")
def start(terminal: Any) -> Any:
    """Starts `fednet launch` of a method, with options."""
    (terminal.folder / "private.yaml").write_text(PRIVATE)

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


def results(run: Path) -> dict[str, Any]:
    """The numbers of a run and the bytes of its samples."""
    samples = {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob("samples/**/*.safetensors"))}
    return {"metrics": steady(json.loads((run / "metrics.json").read_text())), **samples}


def entries(run: Path) -> dict[str, Counter[str]]:
    """How often each work stands in each site's privacy ledger."""
    books = {path.stem: json.loads(path.read_text())["entries"] for path in sorted(run.glob("privacy/*.json"))}
    return {site: Counter(entry["key"] for entry in book) for site, book in books.items()}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_to_the_result_of_an_undisturbed_one(
    start: Any, whole: Any, method: str, seed: int
) -> None:
    """Everybody gets SIGKILL at a moment drawn among the words of progress of the undisturbed run."""
    undisturbed = whole(method)
    moment = random.Random(seed).randint(1, len(undisturbed.happened("progress")) - 1)  # noqa: S311
    killed = start(method, f"killed-{seed}")
    killed.until(lambda: len(killed.happened("progress")) >= moment, f"word {moment}")
    killed.kill()
    paid = entries(killed.run)
    again = start(method, f"killed-{seed}", "--resume")
    assert again.ends() == 0, again.err
    assert results(again.run) == results(undisturbed.run)
    for site, book in entries(again.run).items():
        assert book.keys() == entries(undisturbed.run)[site].keys()
        twice = {key for key, times in book.items() if times > 1}
        assert len(twice) <= 1  # what was under way is paid again, since its noise is gone; nothing else is
        assert paid.get(site, Counter()) <= book
