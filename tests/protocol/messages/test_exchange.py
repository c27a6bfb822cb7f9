"""What fits into an offer, and what does not: a matrix of a few embeddings, and no picture, gradient or model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from protocol.codec import Envelope, decode, encode
from protocol.errors import WireError
from protocol.messages.exchange import ExchangeDecline, ExchangeRequest, OfferList, OfferMessage, OfferVerdict

GOOD: dict[str, Any] = {"origin": "anna", "subject": "seven", "version": 1, "key": "k", "embeddings": torch.ones(2, 16)}


def nan() -> Tensor:
    embeddings = torch.ones(2, 16)
    embeddings[1, 3] = torch.nan
    return embeddings


@pytest.mark.parametrize("shape", [(1, 1), (64, 4096), (3, 1024)])
def test_embeddings_fit(shape: tuple[int, int]) -> None:
    assert OfferMessage(**(GOOD | {"embeddings": torch.zeros(shape)})).embeddings.shape == shape


@pytest.mark.parametrize(
    "embeddings",
    [
        torch.ones(16),
        torch.ones(1, 8, 8),
        torch.ones(65, 16),
        torch.ones(1, 4097),
        torch.ones(0, 16),
        torch.ones(1, 0),
        torch.ones(2, 16, dtype=torch.float64),
        torch.ones(2, 16, dtype=torch.uint8),
        nan(),
        torch.full((1, 16), torch.inf),
        "embeddings",
    ],
)
def test_other_tensors_do_not(embeddings: Any) -> None:
    with pytest.raises(ValidationError):
        OfferMessage(**(GOOD | {"embeddings": embeddings}))


@pytest.mark.parametrize(
    "changes", [{"version": 0}, {"subject": ""}, {"subject": 65 * "s"}, {"origin": "no name"}, {"key": 129 * "k"}]
)
def test_its_names_and_versions_are_bounded(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OfferMessage(**(GOOD | changes))


@pytest.mark.parametrize("encoding", ["raw", "bf16", "fp16", "int8"])
def test_embeddings_travel_bit_for_bit_whatever_the_encoding_of_the_run_is(encoding: Any) -> None:
    embeddings = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    frames = encode(
        Envelope("exchange/", "r", "anna", 1, 1, OfferMessage(**(GOOD | {"embeddings": embeddings}))), encoding
    )
    arrived = decode(frames).message
    assert isinstance(arrived, OfferMessage)
    assert torch.equal(arrived.embeddings, embeddings)
    assert sum(map(len, frames)) < embeddings.numel() * 4 + 200


def test_embeddings_that_are_not_finite_are_refused_with_the_name_of_their_sender() -> None:
    good = encode(Envelope("exchange/", "r", "anna", 1, 1, OfferMessage(**GOOD)))
    bad = nan().numpy().tobytes()
    with pytest.raises(
        WireError, match=r"kind='offer', sender='anna', field='embeddings', expected='.*finite embeddings"
    ):
        decode([*good[:2], bad])


def test_a_peer_says_what_it_offers_what_it_absorbs_and_why_not() -> None:
    assert OfferList(key="k", versions={"s": 1}, values={"loss": float("nan")}, bytes_sent=3).versions == {"s": 1}
    assert OfferVerdict(key="k", origin="anna", refused={"s": 300 * "x"}).origin == "anna"
    assert ExchangeDecline(key="k", reason="").reason == ""
    assert ExchangeRequest(key="k", task="learn", options={"a": 1, "b": None}).options == {"a": 1, "b": None}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (OfferList, {"key": "k", "versions": {"s": 0}, "values": {}, "bytes_sent": 0}),
        (OfferList, {"key": "k", "versions": {str(n): 1 for n in range(257)}, "values": {}, "bytes_sent": 0}),
        (OfferList, {"key": "", "versions": {}, "values": {}, "bytes_sent": 0}),
        (OfferVerdict, {"key": "k", "origin": "anna", "refused": {"s": 301 * "x"}}),
        (ExchangeDecline, {"key": "k", "reason": 501 * "x"}),
        (ExchangeRequest, {"key": "k", "task": "", "options": {}}),
        (ExchangeRequest, {"key": "k", "task": "w", "options": {"x": torch.ones(1)}}),
    ],
)
def test_what_is_too_much_or_nothing_is_refused(kind: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind(**fields)


def test_the_refusals_of_a_whole_call_fit_into_one_message() -> None:
    refused = {f"{n:064d}": 300 * "r" for n in range(256)}
    frames = encode(Envelope("to/g/", "r", "anna", 1, 1, OfferVerdict(key=128 * "k", origin="anna", refused=refused)))
    assert dict(decode(frames).message)["refused"] == refused
