"""What the tables of the methods' READMEs have in common: launches whose metrics stay, and a README with two marks."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Launch:
    """One configuration: an example and what is set over it."""

    name: str
    example: str
    overrides: tuple[str, ...] = ()


def launched(launch: Launch, seed: int, out: Path) -> dict[str, Any]:
    """The metrics of one launch, made now if they are not there."""
    name = f"{launch.name}-{seed}"
    metrics = out / name / "metrics.json"
    if not metrics.exists():
        settings = (f"name={name}", f"seed={seed}", "devices.threads=1", *launch.overrides)
        arguments = [part for setting in settings for part in ("--set", setting)]
        command = [
            str(Path(sys.executable).with_name("fednet")),
            "launch",
            launch.example,
            "--out",
            str(out),
            *arguments,
        ]
        subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads(metrics.read_text())
    return found


def write(readme: Path, text: str, part: str = "results") -> None:
    """Puts a table between a README's two marks of this part."""
    start, end = f"<!-- {part} -->", f"<!-- /{part} -->"
    before, rest = readme.read_text().split(start, 1)
    after = rest.split(end, 1)[1]
    readme.write_text(f"{before}{start}\n{text}\n{end}{after}")
