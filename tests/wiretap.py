"""Hears every frame that nodes publish, in one process or on real sockets, and says what has left a site.

The promise of the exchange conversation, "nothing but words leaves", is held against the wire itself and not against
the code that makes the messages. For any test: the fixture `wiretap` is this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Sequence
from typing import Any

import torch
import zmq
import zmq.asyncio
from torch import Tensor

from nodes.transport.memory import MemoryNetwork
from protocol import codec
from protocol.codec import Envelope
from protocol.messages import Retransmission
from protocol.messages.exchange import OfferMessage

RUN = 16
"""Bytes in a row that are taken for a piece of a picture."""

DISTINCT = 4
"""Values among them, at least: a white margin is no secret."""


class Wiretap:
    """Everything that was published.

    Attributes:
        messages: the frames of each message, in order.
    """

    def __init__(self) -> None:
        self.messages: list[list[bytes]] = []
        self._listening: list[asyncio.Task[None]] = []
        self._context: Any = None

    def on(self, network: MemoryNetwork) -> Wiretap:
        """Hears a network within this process."""
        carry = network.carry

        def tapped(sender: str, frames: Sequence[codec.Buffer], *, pulse: bool) -> None:
            self.messages.append([bytes(frame) for frame in frames])
            carry(sender, frames, pulse=pulse)

        network.carry = tapped  # type: ignore[method-assign]
        return self

    def listen(self, *addresses: str) -> Wiretap:
        """Hears the publishers at these addresses, before and after they are there, from now to `close`."""
        self._context = self._context or zmq.asyncio.Context()
        for address in addresses:
            socket = self._context.socket(zmq.SUB)
            socket.setsockopt(zmq.RECONNECT_IVL, 10)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(address)
            self._listening.append(asyncio.create_task(self._hear(socket)))
        return self

    async def close(self) -> None:
        """Hears no more of sockets."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        if self._context is not None:
            self._context.destroy(linger=0)

    async def _hear(self, socket: Any) -> None:
        while True:
            self.messages.append(await socket.recv_multipart())

    def envelopes(self) -> list[Envelope]:
        """What was said, a repeated message as it was said first; no copy of it twice."""
        whole = [codec.decode(frames) for frames in self.messages]
        repeated = [
            codec.retransmitted_frames(frames)
            for frames, said in zip(self.messages, whole, strict=True)
            if _again(said)
        ]
        said = [*(each for each in whole if not _again(each)), *map(codec.decode, repeated)]
        numbered = {(each.sender, each.incarnation, each.topic, each.number): each for each in said if each.number}
        return [*(each for each in said if not each.number), *numbered.values()]

    def words(self, clients: Iterable[str], width: int, but: Container[str] = ()) -> list[OfferMessage]:
        """The offers of clients, once it is sure that they have said no other tensor, and words of this width only.

        Args:
            clients: names of nodes.
            width: of the words that they have agreed on.
            but: kinds of messages that may have tensors, for example the answers to questions.
        """
        said = [each for each in self.envelopes() if each.sender in set(clients)]
        assert said, "nothing was heard of the clients"
        for each in said:
            if not isinstance(each.message, OfferMessage) and each.message.kind not in but:
                assert not _tensors(dict(each.message)), f"{each.sender}'s {each.message.kind} has a tensor"
        offers = [each.message for each in said if isinstance(each.message, OfferMessage)]
        assert {offer.embeddings.shape[1:] for offer in offers} <= {(width,)}
        assert all(offer.embeddings.dtype is torch.float32 for offer in offers)
        return offers

    def nothing_of(self, pictures: Iterable[Tensor]) -> int:
        """Makes sure that no frame has a piece of a private picture, in whichever of the usual forms.

        Args:
            pictures: uint8, or floats as the site has them; those in [0, 1] are looked for as bytes, too.

        Returns:
            How many distinct pieces were looked for.
        """
        pieces = {piece for picture in pictures for form in _forms(picture) for piece in _pieces(form)}
        assert pieces, "these pictures have nothing that could be recognised"
        for frames in self.messages:
            for frame in frames:
                found = [start for start in range(len(frame) - RUN + 1) if frame[start : start + RUN] in pieces]
                assert not found, f"{frames[0]!r} has a piece of a picture at byte {found[0]}"
        return len(pieces)


def _again(said: Envelope) -> bool:
    return isinstance(said.message, Retransmission)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _forms(picture: Tensor) -> list[bytes]:
    """A picture's bytes as it is, as halves, and as pixels of a byte."""
    flat = picture.detach().cpu().contiguous().flatten()
    kept = [flat]
    if flat.is_floating_point():
        kept += [flat.to(torch.float16), flat.to(torch.bfloat16)]
        for low, high in ((0.0, 1.0), (-1.0, 1.0)):
            if flat.min() >= low and flat.max() <= high:
                kept.append(((flat - low) / (high - low) * 255).round().to(torch.uint8))
    return [bytes(form.view(torch.uint8).numpy()) for form in kept]


def _pieces(form: bytes) -> set[bytes]:
    runs = {form[start : start + RUN] for start in range(len(form) - RUN + 1)}
    return {run for run in runs if len(set(run)) >= DISTINCT}
