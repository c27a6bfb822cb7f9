"""What can never be reached with the configured number of clients is refused, with its key."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from fednet.federated.config import Federation, Krum, Mean, Secure
from launch.config.document import KeyPath, YamlDocument
from launch.config.feasibility import infeasible

DOCUMENT = YamlDocument("cluster.yaml", {}, {})


class Settings(BaseModel):
    """A method's settings, with a federation in them."""

    rounds: int = 3
    federation: Federation = Federation()


@pytest.mark.parametrize(
    ("clients", "federation", "key"),
    [
        (2, Federation(quorum=3), "federation.quorum"),
        (4, Federation(rule=Krum()), "federation.rule"),
        (2, Federation(secure=Secure()), "federation.secure"),
        (3, Federation(secure=Secure(threshold=4)), "federation.secure.threshold"),
        (6, Federation(secure=Secure(threshold=3)), "federation.secure.threshold"),
    ],
)
def test_a_federation_needs_enough_clients(clients: int, federation: Federation, key: str) -> None:
    (problem, *_) = infeasible(clients, {}, Settings(federation=federation), DOCUMENT)
    assert problem.key == key
    assert infeasible(20, {}, Settings(federation=Federation(rule=Mean())), DOCUMENT) == []


def test_a_quorum_needs_as_many_clients() -> None:
    quorums: dict[KeyPath, int] = {("bus", "policy", "quorum"): 3}
    assert [problem.key for problem in infeasible(2, quorums, Settings(), DOCUMENT)] == ["bus.policy.quorum"]
    assert infeasible(3, quorums, Settings(), DOCUMENT) == []
