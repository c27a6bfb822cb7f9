"""One way to visit a live cluster: as a guest that joins through any peer, does one job over the network, and leaves.

Knows how a visitor comes, how long it waits and what the terminal shows meanwhile; not what it asks for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from launch.commands.node import EndpointOptions
from launch.errors import EXIT_INTERRUPTED, ConfigError, ConfigProblem, RunError
from launch.report.screen import format_values
from launch.run.plan import check_listen
from nodes.spec import NodeSpec, Timing
from protocol.quorum import QuorumPolicy

MAX_LABELS = 1_000_000

if TYPE_CHECKING:
    from fednet.api import Network, Progress

T = TypeVar("T")

TIMING = Timing(ready=20.0)
"""A visitor does not wait for a cluster that is still getting ready."""

POLICY = QuorumPolicy(hard_limit=1800.0)
"""It may ask a site to train, which takes as long as it takes."""


def run_as_guest(place: EndpointOptions, method: str, job: Callable[[Network, Progress], T], console: Console) -> T:
    """Does one job in a cluster that is up, and returns what came of it.

    Args:
        place: where the guest stands, and whom it joins through.
        method: the method that the cluster must run.
        job: what to do there; called on a thread of its own.
        console: shows how far it is.

    Raises:
        ConfigError: the address is not loopback.
        NodeError: nobody answers, or the cluster runs another method.
        MethodError: the cluster cannot do what was asked for.
        RunError: it was interrupted.
    """
    keys = place.keyring()
    check_listen(place.listen, place.insecure or keys is not None, ConfigProblem("--listen"))
    from nodes.run import run_visit  # noqa: PLC0415 - imports torch, which other commands need not wait for

    spec = NodeSpec(
        keys.own.name if keys else f"guest-{secrets.token_hex(4)}",
        "guest",
        "",
        place.listen,
        join=place.join,
        method=method,
        policy=POLICY,
        timing=TIMING,
        keys=keys,
        insecure=place.insecure,
    )
    with console.status(f"looking for the cluster at {', '.join(place.join)}") as status:

        def told(phase: str, done: int, total: int, values: Mapping[str, float]) -> None:
            status.update(" ".join(filter(None, (phase, f"{done}/{total}" if total else "", format_values(values)))))

        try:
            return run_visit(spec, job, told)
        except KeyboardInterrupt:
            raise RunError("interrupted", EXIT_INTERRUPTED) from None


def require_writable(path: Path, option: str) -> Path:
    """A file that a visitor wants written, refused before anybody is asked if its folder does not exist.

    Raises:
        ConfigError: there is no such folder, or the path is one itself.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise ConfigError(ConfigProblem(f"{option} {path}", "a file in a folder that exists"))
    return path


def read_bounded(path: Path, most: int) -> bytes:
    """The bytes of a file that a visitor names.

    Raises:
        ConfigError: it is no file, cannot be read, or has more than `most` bytes.
    """
    if not path.is_file():
        raise ConfigError(ConfigProblem(str(path), "an existing file"))
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ConfigError(ConfigProblem(str(path), "a readable file", error.strerror or str(error))) from error
    if len(content) > most:
        raise ConfigError(ConfigProblem(str(path), f"a file of at most {most} bytes"))
    return content


def parse_label_list(text: str) -> tuple[int, ...]:
    """Label numbers as an operator writes them: `0-9`, `1,3,7` or `0-2,8`.

    Raises:
        ConfigError: that is not what was written.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not first.isdecimal() or not last.isdecimal() or not int(first) <= int(last) < MAX_LABELS:
            raise ConfigError(ConfigProblem(f"--labels {text}", "numbers and ranges such as 0-9 or 1,3,7", repr(part)))
        found += range(int(first), int(last) + 1)
    return tuple(found)
