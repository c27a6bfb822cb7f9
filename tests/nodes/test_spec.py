"""What a node is told is checked before anything starts."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from pydantic import ValidationError

from nodes.spec import NodeSpec, Timing
from protocol.quorum import QuorumPolicy


@pytest.mark.parametrize("wrong", [{"heartbeat": 0}, {"silence": -1.0}, {"ready": "soon"}, {"hearbeat": 0.1}])
def test_timing_refuses_what_makes_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Timing.model_validate(wrong)


def test_a_specification_is_frozen_and_reaches_another_process_as_it_is() -> None:
    spec = NodeSpec(
        "a", "client", "run", "ipc:///tmp/a", policy=QuorumPolicy(kind="survivors"), timing=Timing(silence=9)
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "b"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301 - how multiprocessing starts a node
