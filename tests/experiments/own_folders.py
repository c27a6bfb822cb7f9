"""Three sites with folders of their own through all methods, as docs/own-data.md says: what ends well, what is refused.

    python tests/experiments/own_folders.py [--out runs/own-folders]

Makes the page's folders (a: four classes as png, b: four others as jpg, c: no classes), launches what it configures
with small settings, and prints a row for each: the exit code, the seconds of the whole command, and its last sentence.
Ends with 1 where one ends otherwise than the page says, or where a refusal takes five seconds or lets anything train.
The seconds are those of this machine under its present load, which is printed, too; those of the CPU, which depend less
on it, are the command's own, without those of its nodes.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from launch.run.events import read_events

PAGE = Path(__file__).parents[2] / "docs" / "own-data.md"
CLASSES = {"a": ("ant", "bee", "cat", "dog"), "b": ("elk", "fox", "gnu", "hen")}
SUFFIXES = {"a": "png", "b": "jpg"}
LIMIT = 5.0
"""Seconds within which a refusal must come."""
BEFORE_TRAINING = {"waiting for the other sites", "reading pictures"}
"""Phases of a run that is refused."""


@dataclass(frozen=True)
class Case:
    """A launch.

    Attributes:
        name: of the run.
        page: the block of the page that it starts from.
        sites: those that take part.
        settings: replace keys of the block's sections.
        refused: what it must say; empty where it must end well.
    """

    name: str
    page: str
    sites: str
    settings: dict[str, Any] = field(default_factory=dict)
    refused: str = ""


NET = {"channels": [8], "groups": 4}
BRIEF = {"steps": 2, "batch": 8, "lr": 0.001}
CASES = (
    Case("scores", "own", "abc", {"samples": {"total": 8}, "sampler": {"kind": "euler-maruyama", "steps": 3}}),
    Case("scores-labels", "own", "abc", {"model": {**NET, "conditional": True}}, "the pictures of c have none"),
    Case("gan", "own", "abc", {
        "method": "private-gan", "model": {"latent": 4}, "rounds": 1, "train": {"steps": 1, "rate": 0.2},
        "report": {"samples": 40},
    }),
    Case("gan-labels", "own", "abc", {
        "method": "private-gan", "model": {"latent": 4}, "classifier": {"rounds": 1},
    }, "the pictures of c have none"),
    Case("bagan", "fedbagan", "ab", {
        "model": {"latent": 4, "width": 4}, "autoencoder": {"rounds": 2, "steps": 2},
        "gan": {"rounds": 2, "steps": 1, "first": 1}, "report": {"every": 1, "per_class": 33},
    }),
    Case("bagan-labels", "fedbagan", "abc", {}, "the pictures of c have none"),
    Case("novel", "novelty", "ab", {
        "flow": {"first_epochs": 1, "rounds": 1, "detector_rounds": 1},
        "disclose": {"calibrate": {"pictures": 2}, "evaluate": {"pictures": 4}},
        "detector": {
            "unet": {**NET, "attention": False}, "train": {"steps": 2}, "alone": 2,
            "score": {"reconstructions": 2, "steps": 2, "false_alarms": 0.2},
        },
    }),
    Case("novel-labels", "novelty", "abc", {"disclose": {"calibrate": {}}}, "the pictures of c have none"),
    Case("novel-classes", "own", "ab", {"method": "novelty", "disclose": {"calibrate": {}}}, "change flow"),
    Case("words", "cmtii", "ab", {
        "learn": {"steps": 2, "batch": 8}, "tune": {"generated": 4, "steps": 2, "batch": 8, "rank": 2},
        "report": {"views": 2},
        "backend": {
            "kind": "embedded",
            "clip": {"vision": 16, "vision_layers": 1, "text_layers": 1, "pretraining": BRIEF},
            "image_generator": {"channels": [8], "steps": 2, "pretraining": BRIEF},
        },
    }),
    Case("words-labels", "own", "abc", {"method": "cmtii"}, "the pictures of c have none"),
    Case("words-public", "own", "ab", {"method": "cmtii"}, "the embedded models know the classes of the run's data"),
)  # fmt: skip


def picture(kind: int, random: np.random.Generator) -> Image.Image:
    """One of eight patterns in grey, 16 x 16, a little moved and noisy, so that an eye tells the classes apart."""
    y, x = np.mgrid[:16, :16]
    moved = x - 8 + random.integers(-1, 2)
    bright = (
        x // 4 % 2 == 0, y // 4 % 2 == 0, (x + y) // 4 % 2 == 0, abs(moved) < 3, abs(moved.T) < 3,
        moved**2 + (y - 8) ** 2 < 25, moved**2 + (y - 8) ** 2 > 36, moved > -1,
    )[kind]  # fmt: skip
    return Image.fromarray(np.clip(random.normal(20, 8, (16, 16)) + 200 * bright, 0, 255).astype(np.uint8))


def make_folders(out: Path) -> None:
    """The page's folders, and `public` with images of all classes."""
    random = np.random.default_rng(0)
    folders = [(f"{site}/{name}", SUFFIXES[site], 16) for site in CLASSES for name in CLASSES[site]]
    folders += [(f"public/{name}", "png", 16) for name in (*CLASSES["a"], *CLASSES["b"])]
    for number, (folder, suffix, count) in enumerate([*folders, ("c", "png", 24)]):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            kind = index if folder == "c" else number
            picture(kind % 8, random).save(out / folder / f"{index}.{suffix}")


def page_configuration(name: str) -> dict[str, Any]:
    """A block of the page."""
    block = re.search(rf"    # {name}\.yaml\n((?:    .*\n)+)", PAGE.read_text("utf-8"))
    if block is None:
        raise SystemExit(f"{PAGE} has no block {name}.yaml")
    values: dict[str, Any] = yaml.safe_load(re.sub("^    ", "", block[1], flags=re.MULTILINE))
    return values


def configuration(case: Case) -> dict[str, Any]:
    """What is launched."""
    own = page_configuration("own")
    values = own if case.page == "own" else {"data": own["data"], **page_configuration(case.page)}
    nodes = {site: values.get("nodes", own["nodes"]).get(site, own["nodes"][site]) for site in case.sites}
    if "method" in case.settings:
        values = {"data": values["data"]}
    for key, value in case.settings.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return {**values, "name": case.name, "nodes": nodes, "devices": {"threads": 1}}


@dataclass(frozen=True)
class Ended:
    """How a command has ended: its exit code, seconds, those of the CPU, and what it wrote on standard error."""

    code: int
    seconds: float
    cpu: float
    said: str


def launched(case: Case, out: Path) -> Ended:
    """Launches it and waits for its end."""
    file = out / f"{case.name}.yaml"
    file.write_text(yaml.safe_dump(configuration(case)), "utf-8")
    shutil.rmtree(out / "runs" / case.name, ignore_errors=True)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(Path(sys.executable).with_name("fednet")), "launch", file.name]
    ended = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return Ended(ended.returncode, time.monotonic() - began, cpu, ended.stderr)


def faults(case: Case, ended: Ended, run: Path) -> Iterator[str]:
    """How a launch has ended otherwise than it should."""
    if not case.refused:
        if ended.code:
            yield "did not end well"
        return
    if not ended.code or case.refused not in ended.said:
        yield "not refused"
    if ended.seconds >= LIMIT:
        yield f"refused after {LIMIT:g} s"
    file = run / "events.jsonl"
    events = read_events(file) if file.is_file() else ()
    phases = {str(event.data["phase"]) for event in events if event.kind == "progress"}
    if phases - BEFORE_TRAINING:
        yield f"began {', '.join(sorted(phases - BEFORE_TRAINING))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/own-folders"))
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES], help="names of runs")
    given = parser.parse_args()
    make_folders(given.out)
    wrong = False
    write = sys.stdout.write
    write("| run | sites | wanted | code | seconds | of CPU | load | said |\n" + "|---" * 8 + "|\n")
    for case in (case for case in CASES if case.name in given.only):
        ended = launched(case, given.out)
        found = ", ".join(faults(case, ended, given.out / "runs" / case.name))
        wrong |= bool(found)
        last = next((line for line in reversed(ended.said.splitlines()) if line.startswith("fednet: ")), "")
        wanted, load = "refused" if case.refused else "ends well", os.getloadavg()[0]
        told = f"**{found}** {last}" if found else last
        times = f"{ended.seconds:.1f} | {ended.cpu:.1f} | {load:.1f}"
        write(f"| {case.name} | {case.sites} | {wanted} | {ended.code} | {times} | {told} |\n")
        sys.stdout.flush()
    raise SystemExit(wrong)


if __name__ == "__main__":
    main()
