"""How a node's end is told."""

from __future__ import annotations

from typing import Any

import pytest

from launch.errors import EXIT_INTERNAL_ERROR, EXIT_METHOD_ERROR
from launch.run.outcome import NodeExit


@pytest.mark.parametrize(
    ("code", "cause", "family"),
    [
        (4, "ended with exit code 4", EXIT_METHOD_ERROR),
        (7, "ended with exit code 7", EXIT_INTERNAL_ERROR),
        (-11, "was killed by SIGSEGV", EXIT_INTERNAL_ERROR),
        (-63, "was killed by signal 63", EXIT_INTERNAL_ERROR),
    ],
)
def test_how_a_process_ended_in_words(code: Any, cause: Any, family: Any) -> None:
    death = NodeExit("a1", code, "")
    assert (death.cause, death.family, str(death)) == (cause, family, f"a1 {cause}")
