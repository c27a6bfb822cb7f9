"""Errors: what they say, and the exit code of each family."""

from __future__ import annotations

from typing import Any

import pytest

from fednet.errors import DataError, DiskFull, MethodError
from launch.errors import EXPLAINED, ConfigError, ConfigProblem, RunError, did_you_mean, exit_code, explained
from nodes.errors import ModelsDiffer, NodeError, NoQuorum, PeersMissing


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(), 2),
        (NodeError(), 3),
        (PeersMissing({}, 1.0), 3),
        (NoQuorum((), 1, {}), 3),
        (MethodError(), 4),
        (DataError(), 4),
        (DiskFull("/x"), 5),
        (ModelsDiffer({"a1": ("model",)}), 6),
        (KeyboardInterrupt(), 130),
        (RunError("over", 4), 4),
        (ZeroDivisionError(), 1),
    ],
)
def test_every_family_has_its_code(error: Any, code: Any) -> None:
    assert exit_code(error) == code
    assert isinstance(error, EXPLAINED) == (code != 1)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (ConfigProblem("c.yaml", "a number", "'x'", 3, "train.lr"), "c.yaml:3: train.lr: expected a number, got 'x'."),
        (ConfigProblem("c.yaml", "an existing file"), "c.yaml: expected an existing file."),
        (ConfigProblem("--set a", hint="Leave it out."), "--set a: Leave it out."),
        (ConfigProblem("c", "x", hint="Do y."), "c: expected x. Do y."),
    ],
)
def test_a_problem_is_one_line(problem: Any, said: Any) -> None:
    assert str(problem) == said


def test_all_problems_are_listed() -> None:
    error = ConfigError(ConfigProblem("a", "x"), ConfigProblem("b", "y"))
    assert str(error).splitlines() == ["a: expected x.", "b: expected y."]


def test_a_hint_needs_something_close() -> None:
    assert did_you_mean("partitoin", ["model", "partition"]) == "Did you mean partition?"
    assert did_you_mean("zzz", ["model", "partition"]) == ""


def test_an_error_is_explained_also_within_a_group() -> None:
    known = NodeError("no such address")
    assert explained(known) is known
    assert explained(ExceptionGroup("tasks", [ZeroDivisionError(), ExceptionGroup("inner", [known])])) is known
    assert isinstance(explained(ExceptionGroup("tasks", [OSError(28, "No space left on device")])), DiskFull)
    assert explained(ZeroDivisionError()) is None


def test_what_may_not_be_opened_is_the_operators_with_its_path() -> None:
    known = explained(ExceptionGroup("several", [PermissionError(13, "Permission denied", "/there/x.key")]))
    assert str(known) == "/there/x.key: Permission denied: this process may not read or write it."
    assert known is not None
    assert exit_code(known) == 2
    assert explained(PermissionError("of a socket")) is None
