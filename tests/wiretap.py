"""Records every frame that nodes publish, in one process or on real sockets, to check what has left a site.

That only embeddings leave a site in an exchange is checked on the wire itself, not in the code that makes the messages.
For any test: the fixture `wiretap` is this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import torch
import zmq
import zmq.asyncio
from torch import Tensor

from nodes.transport.memory import MemoryNetwork
from protocol import codec
from protocol.codec import Envelope
from protocol.frames import Buffer
from protocol.messages import QueryAnswer, Retransmission
from protocol.messages.exchange import OfferMessage

FRAGMENT = 16
"""Consecutive bytes that count as a fragment of an image."""

DISTINCT = 4
"""Distinct values in a fragment, at least: a white margin is no secret."""


class Wiretap:
    """All messages that were published.

    Attributes:
        messages: the frames of each message, in order.
    """

    def __init__(self) -> None:
        self.messages: list[list[bytes]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._heard = asyncio.Event()
        self._context: Any = None

    def on(self, network: MemoryNetwork) -> Wiretap:
        """Records a network within this process."""
        carry = network.carry

        def tapped(sender: str, frames: Sequence[Buffer], *, heartbeat: bool) -> None:
            self.messages.append([bytes(frame) for frame in frames])
            carry(sender, frames, heartbeat=heartbeat)

        network.carry = tapped  # type: ignore[method-assign]
        return self

    def listen(self, *addresses: str) -> Wiretap:
        """Records the publishers at these addresses, also those that bind later, from now to `close`."""
        self._context = self._context or zmq.asyncio.Context()
        for address in addresses:
            socket = self._context.socket(zmq.SUB)
            socket.setsockopt(zmq.RECONNECT_IVL, 10)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            socket.connect(address)
            self._tasks.append(asyncio.create_task(self._record(socket)))
        return self

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition on what was heard holds."""
        while not condition():
            self._heard.clear()
            await self._heard.wait()

    def answered(self) -> dict[str, int]:
        """The latest query that each node was heard to answer: whatever it published before was heard as well."""
        latest: dict[str, int] = {}
        for each in self.envelopes():
            if isinstance(each.message, QueryAnswer):
                latest[each.sender] = max(each.message.query, latest.get(each.sender, 0))
        return latest

    async def close(self) -> None:
        """Stops recording sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._context is not None:
            self._context.destroy(linger=0)

    async def _record(self, socket: Any) -> None:
        while True:
            self.messages.append(await socket.recv_multipart())
            self._heard.set()

    def envelopes(self) -> list[Envelope]:
        """All messages, a retransmission as its first transmission; each once."""
        whole = [codec.decode(frames) for frames in self.messages]
        retransmitted = [
            codec.retransmitted_frames(frames)
            for frames, each in zip(self.messages, whole, strict=True)
            if _is_retransmission(each)
        ]
        sent = [*(each for each in whole if not _is_retransmission(each)), *map(codec.decode, retransmitted)]
        numbered = {(each.sender, each.incarnation, each.topic, each.number): each for each in sent if each.number}
        return [*(each for each in sent if not each.number), *numbered.values()]

    def offers(self, clients: Iterable[str], width: int, but: Container[str] = ()) -> list[OfferMessage]:
        """The offers of clients; asserts that they have sent no other tensor, and embeddings of this width only.

        Args:
            clients: names of nodes.
            width: of the embeddings that they have agreed on.
            but: kinds of messages that may have tensors, for example the answers to queries.
        """
        sent = [each for each in self.envelopes() if each.sender in set(clients)]
        assert sent, "there is no message of the clients"
        for each in sent:
            if not isinstance(each.message, OfferMessage) and each.message.kind not in but:
                assert not _tensors(dict(each.message)), f"{each.sender}'s {each.message.kind} has a tensor"
        offers = [each.message for each in sent if isinstance(each.message, OfferMessage)]
        assert {offer.embeddings.shape[1:] for offer in offers} <= {(width,)}
        assert all(offer.embeddings.dtype is torch.float32 for offer in offers)
        return offers

    def assert_no_image(self, images: Iterable[Tensor]) -> int:
        """Asserts that no frame has a fragment of a private image, in any of the usual encodings.

        Args:
            images: uint8, or floats as the site has them; those in [0, 1] or [-1, 1] are searched as bytes, too.

        Returns:
            The number of distinct fragments that were searched.
        """
        fragments = {each for image in images for form in _encodings(image) for each in _fragments(form)}
        assert fragments, "these images have nothing that could be recognised"
        for frames in self.messages:
            for frame in frames:
                found = [
                    start for start in range(len(frame) - FRAGMENT + 1) if frame[start : start + FRAGMENT] in fragments
                ]
                assert not found, f"{frames[0]!r} has a fragment of an image at byte {found[0]}"
        return len(fragments)


def _is_retransmission(envelope: Envelope) -> bool:
    return isinstance(envelope.message, Retransmission)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _encodings(image: Tensor) -> list[bytes]:
    """The bytes of an image as it is, as halves, and as pixels of a byte."""
    flat = image.detach().cpu().contiguous().flatten()
    encodings = [flat]
    if flat.is_floating_point():
        encodings += [flat.to(torch.float16), flat.to(torch.bfloat16)]
        for low, high in ((0.0, 1.0), (-1.0, 1.0)):
            if flat.min() >= low and flat.max() <= high:
                encodings.append(((flat - low) / (high - low) * 255).round().to(torch.uint8))
    return [bytes(form.view(torch.uint8).numpy()) for form in encodings]


def _fragments(form: bytes) -> set[bytes]:
    fragments = {form[start : start + FRAGMENT] for start in range(len(form) - FRAGMENT + 1)}
    return {each for each in fragments if len(set(each)) >= DISTINCT}
