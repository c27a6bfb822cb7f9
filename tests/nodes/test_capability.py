"""Every capability of a node is told of peers in the same way."""

from __future__ import annotations

import inspect

import pytest

from nodes.capability import Capability
from nodes.exchange.client import ExchangeClient
from nodes.exchange.peer import ExchangePeer
from nodes.peer_directory import CapabilityPublisher, PeerDirectory
from nodes.queries.client import QueryClient
from nodes.queries.responder import QueryResponder
from nodes.rounds.client import RoundsClient
from nodes.rounds.service import RoundService

CAPABILITIES = [
    CapabilityPublisher, ExchangeClient, ExchangePeer, PeerDirectory, QueryClient, QueryResponder, RoundService,
    RoundsClient,
]  # fmt: skip


@pytest.mark.parametrize("method", ["linked", "departed"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_each_hears_of_peers_in_the_same_way(capability: type, method: str) -> None:
    parameters = inspect.signature(getattr(capability, method)).parameters
    wanted = inspect.signature(getattr(Capability, method)).parameters
    assert [each.kind for each in parameters.values()] == [each.kind for each in wanted.values()]
