"""Feeds changed bytes to whatever reads what others have made (`targets`); nothing but its own errors may come out.

    make fuzz [SECONDS=600]
    python -m tests.fuzz.fuzz [--seconds 60] [TARGET ...]      # a process for each target, the time divided among them

Coverage guides the changes where atheris is installed (libFuzzer); elsewhere hypothesis makes them, blindly. What was
found to be of interest is kept in runs/fuzz/TARGET, so that the next run goes on from there. An input that breaks a
target is written to runs/fuzz/TARGET-crash-...: it belongs into the corpus beside this file once the fault is mended,
where the tests read it ever after.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

try:
    import atheris
except ImportError:
    atheris = None

READERS = ["fednet", "launch", "protocol", "PIL", "pydicom", "yaml"]
with atheris.instrument_imports(include=READERS) if atheris else nullcontext():
    import pydicom.pixels  # noqa: F401 - what `image_files` imports only when it meets such a file
    from PIL import Image

    from tests.fuzz.targets import TARGETS, inputs

FOUND = Path("runs/fuzz")
MAX_BYTES = 8192
MAX_SECONDS = 20
"""Of one input, on a busy machine."""
MAX_MIB = 4096
MAX_PIXELS = 1 << 20
"""Half of what an image may have here: what one of the 179 megapixels that are allowed costs is known."""


def watched(name: str) -> Callable[[bytes], None]:
    """A target that writes the input that breaks it, the last one for each kind of error, and raises."""

    def read(data: bytes) -> None:
        try:
            TARGETS[name](data)
        except BaseException as error:
            (FOUND / f"{name}-crash-{type(error).__name__}").write_bytes(data)
            raise

    return read


def by_atheris(name: str, seconds: int) -> None:
    """Fuzzes one target in this process, which ends."""
    kept = FOUND / name
    kept.mkdir(exist_ok=True)
    for data in inputs(name):
        (kept / hashlib.sha256(data).hexdigest()).write_bytes(data)
    limits = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", f"-rss_limit_mb={MAX_MIB}"]
    output = [f"-timeout={MAX_SECONDS}", f"-artifact_prefix={FOUND}/{name}-", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *output, str(kept)], watched(name))
    atheris.Fuzz()


def by_hypothesis(name: str, seconds: int) -> None:
    """Fuzzes one target; an input that breaks it is shrunk."""
    read, first, end = watched(name), inputs(name), time.monotonic() + seconds
    changes = st.lists(st.tuples(st.integers(0, MAX_BYTES), st.integers(0, 16), st.binary(max_size=16)), max_size=4)

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(first), changes)
    def changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        for place, count, new in changes:
            at = place % (len(data) + 1)
            data = data[:at] + new + data[at + count :]
        read(data)

    while time.monotonic() < end:
        changed()


def fuzz(name: str, seconds: int) -> None:
    """Fuzzes one target, by what is installed."""
    warnings.simplefilter("ignore")  # of decoders
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    (by_atheris if atheris else by_hypothesis)(name, seconds)


def main() -> int:
    """Fuzzes the targets that are named, or all, one after another; 1 where one broke."""
    parser = argparse.ArgumentParser(description="Fuzzes what reads bytes that others have made.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for all of them together")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"unknown targets {', '.join(sorted(unknown))}; expected some of {', '.join(TARGETS)}")
    FOUND.mkdir(parents=True, exist_ok=True)
    each, broken = max(1, options.seconds // len(names)), []
    for name in names:
        process = multiprocessing.get_context("fork").Process(target=fuzz, args=(name, each))  # imports once
        process.start()
        process.join()
        broken += [name] if process.exitcode else []
    how = "atheris" if atheris else "hypothesis (atheris is not installed)"
    sys.stdout.write(f"{len(names)} targets, {each} s each, by {how}; broken: {', '.join(broken) or 'none'}\n")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
