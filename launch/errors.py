"""The operator's errors, and what the command line exits with.

    ConfigError     a configuration file, an override or an argument cannot be used; lists every fault at once
    RunError        a run that was started did not reach its end; carries the family's exit code

Exit codes by family: 0 done, 1 a fault of fednet itself, 2 `ConfigError`, 3 `nodes.NodeError` (peers, addresses),
4 `fednet.MethodError`, 5 `fednet.DiskFull`, 6 `nodes.ModelsDiffer` (the run is over, and a site that is alive does not
hold its model), 128 + N ended by the signal N (130 by Ctrl-C), see `nodes.signals`. `fednet wait` and `fednet attach`
exit with the code of the run that has ended, which is 1 where its launch was killed. This module knows families only,
never how an error is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from fednet.errors import DiskFull, MethodError, UnknownMethod, UsageError
from fednet.files import disk_full
from nodes.errors import ModelsDiffer, NodeError

EXIT_OK: Final = 0
EXIT_INTERNAL_ERROR: Final = 1
EXIT_CONFIG_ERROR: Final = 2
EXIT_PEER_ERROR: Final = 3
EXIT_METHOD_ERROR: Final = 4
EXIT_DISK_FULL: Final = 5
EXIT_MODELS_DIFFER: Final = 6
EXIT_INTERRUPTED: Final = 130

DEBUG: Final = "FEDNET_DEBUG"
"""Set in the environment, errors show their traceback; the option `--debug` sets it."""


@dataclass(frozen=True)
class ConfigProblem:
    """One thing that the operator must change.

    Attributes:
        where: the file, or the argument (for example `--set arms=3`).
        expected: what would have been right, as the end of "expected ..."; empty where `hint` says it all.
        given: what was there instead, as the operator wrote it; empty where nothing was.
        line: 1-based line of `where`, if it is a file.
        key: dotted path of the key; empty for the document itself.
        hint: what is wrong or what to do, whole sentences; may be empty.
    """

    where: str
    expected: str = ""
    given: str = ""
    line: int | None = None
    key: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = self.where if self.line is None else f"{self.where}:{self.line}"
        subject = f"{place}: {self.key}" if self.key else place
        given = f", got {self.given}" if self.given else ""
        fault = f"expected {self.expected}{given}." if self.expected else ""
        return f"{subject}: " + " ".join(filter(None, (fault, self.hint)))


class ConfigError(Exception):
    """What the operator gave cannot be used.

    Attributes:
        problems: every fault, in the order of the file.
    """

    def __init__(self, *problems: ConfigProblem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class RunError(Exception):
    """A run ended before its work was done.

    Attributes:
        code: the exit code of the family that is to blame.
    """

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigError, EXIT_CONFIG_ERROR),
    (UsageError, EXIT_CONFIG_ERROR),
    (ModelsDiffer, EXIT_MODELS_DIFFER),
    (NodeError, EXIT_PEER_ERROR),
    (MethodError, EXIT_METHOD_ERROR),
    (DiskFull, EXIT_DISK_FULL),
    (KeyboardInterrupt, EXIT_INTERRUPTED),
)

EXPLAINED: tuple[type[BaseException], ...] = (RunError, *(family for family, _ in EXIT_CODES))
"""The errors whose message says all that the operator needs; whatever else arises is a fault of fednet."""


def explained(error: BaseException) -> BaseException | None:
    """The error, or the one within a group, whose message says all that the operator needs; None for a fault of fednet.

    A full disk is found wherever it is the cause, since any library may meet it; so is what this process may not open.
    """
    if isinstance(error, EXPLAINED):
        return error
    if isinstance(error, PermissionError) and error.filename:
        hint = f"{error.strerror}: this process may not read or write it."
        return ConfigError(ConfigProblem(str(error.filename), hint=hint))
    if full := disk_full(error):
        return full
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return next(filter(None, map(explained, inner)), None)


def exit_code(error: BaseException) -> int:
    """The exit code of the family that an error belongs to; 1 for any other."""
    if isinstance(error, RunError):
        return error.code
    return next((code for family, code in EXIT_CODES if isinstance(error, family)), EXIT_INTERNAL_ERROR)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or "" where none comes close."""
    close = get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else ""


def unknown_method(error: UnknownMethod, where: str, line: int | None = None, key: str = "") -> ConfigProblem:
    """The operator's problem with a method: its name is none, with the closest one, or its module cannot be used."""
    if error.known:
        expected = f"one of {', '.join(error.known)}, or the path of a module (a.b)"
        return ConfigProblem(where, expected, repr(error.name), line, key, did_you_mean(error.name, error.known))
    return ConfigProblem(where, line=line, key=key, hint=f"The method {error.name!r} cannot be used: {error.reason}.")
