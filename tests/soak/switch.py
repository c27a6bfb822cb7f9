"""An Ethernet switch in user space that holds every frame back and loses some: netem for kernels that have none.

    ip netns exec fednet-bridge python tests/soak/switch.py a1 a2 guest --delay 0.05 --loss 0.03     # until stdin ends

It stands between devices that are taken off the kernel's bridge. A frame is held back once and risked once on its way
through, so that with 50 ms a round trip takes 100 ms, and 3 of 100 frames are lost in each direction; each copy of a
broadcast has a fate of its own. Frames are passed on with the kernel's note of what was left to the hardware
(PACKET_VNET_HDR), so that an unfinished checksum is no harm; whoever wants losses of packets, and not of the 64 KB that
TCP hands down as one, forbids those (`ip link set DEVICE gso_max_segs 1`), as `networks.py` does.

What netem would do differently: it stands in a device's own queue, so that TCP is told to wait when that is long; it
drops what is too many (1,000 frames) and here the switch's buffers are the bound (16 MB a device, what did not fit is
reported); its timer is the kernel's, while this process may get its core late (how late is reported). The same seed is
the same sequence of fates, but frames come in another order every time.

Refuses to know what the frames say beyond the two addresses. Needs root, and nothing but Python.
Source: packet(7), linux/if_packet.h, linux/virtio_net.h; learning as in IEEE 802.1D, without ageing or loops.
"""

from __future__ import annotations

import argparse
import os
import random
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

SOL_PACKET, PACKET_STATISTICS, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 6, 15, 23
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
ETH_P_ALL = 3

NOTE = 10
"""Bytes of the kernel's note (struct virtio_net_hdr) before a frame."""
MOST = NOTE + 18 + (1 << 16)
"""Bytes of a frame, at most."""
BUFFER = 16 << 20
"""Bytes that may wait at a device."""
TURN = 64
"""Frames that are taken from one device before the others have their turn."""
PRIORITY = -10
"""It stands for a wire, and a wire does not wait for a core (nice(2))."""


@dataclass
class Account:
    """What has become of the frames.

    Attributes:
        carried: passed on.
        lost: dropped by chance.
        refused: not taken by a device.
        overflowed: came when a device's buffer was full.
        late: seconds by which all of them were held back too long.
        latest: the same of the latest.
    """

    carried: int = 0
    lost: int = 0
    refused: int = 0
    overflowed: int = 0
    late: float = 0.0
    latest: float = 0.0

    def __str__(self) -> str:
        share = self.lost / max(1, self.carried + self.lost + self.refused)
        return (
            f"{self.carried} frames carried, {share:.2%} lost by chance, {self.refused + self.overflowed} for want of "
            f"room; {1000 * self.late / max(1, self.carried):.2f} ms late on average, {1000 * self.latest:.1f} at worst"
        )


class Switch:
    """Decides where a frame goes, whether it arrives, and when. Knows no sockets and no clock.

    Args:
        ports: how many there are.
        delay: seconds for which every frame is held back, so that the first in is the first out.
        loss: the share of the frames that is lost, in [0, 1].
        chance: decides which.
    """

    def __init__(self, ports: int, delay: float, loss: float, chance: random.Random) -> None:
        self._ports, self._delay, self._loss, self._chance = range(ports), delay, loss, chance
        self._learnt: dict[bytes, int] = {}
        self._held: deque[tuple[float, int, bytes]] = deque()
        self.account = Account()

    def take(self, frame: bytes, port: int, now: float) -> None:
        """A frame, its note before it, has come in at a port."""
        target, source = frame[NOTE : NOTE + 6], frame[NOTE + 6 : NOTE + 12]
        self._learnt[source] = port
        known = self._learnt.get(target)
        for other in self._ports if known is None else (known,):
            if other == port:
                continue
            if self._chance.random() < self._loss:
                self.account.lost += 1
            else:
                self._held.append((now + self._delay, other, frame))

    def due(self, now: float) -> Iterator[tuple[int, bytes]]:
        """The frames that have been held back long enough, and the ports at which they leave."""
        while self._held and self._held[0][0] <= now:
            when, port, frame = self._held.popleft()
            self.account.late += now - when
            self.account.latest = max(self.account.latest, now - when)
            yield port, frame

    def rest(self, now: float) -> float | None:
        """Seconds until the next frame is due; None while there is none."""
        return max(0.0, self._held[0][0] - now) if self._held else None


def plug(device: str) -> socket.socket:
    """A socket at a device that hears what comes in, not what is sent there."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # deaf until it is bound
    made.setblocking(False)
    made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    made.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    for which in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
        made.setsockopt(socket.SOL_SOCKET, which, BUFFER)
    made.bind((device, ETH_P_ALL))
    return made


def carry(switch: Switch, plugs: list[socket.socket]) -> None:
    """Moves frames until stdin ends, so that the switch does not outlive who has started it."""
    with selectors.DefaultSelector() as selector:
        for port, plugged in enumerate(plugs):
            selector.register(plugged, selectors.EVENT_READ, port)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(switch.rest(time.monotonic())):
                if key.data is None:
                    return
                take_in(switch, plugs[key.data], key.data)
            send_out(switch, plugs)


def take_in(switch: Switch, plugged: socket.socket, port: int) -> None:
    """Takes what waits at a port, but no more than its turn."""
    with suppress(BlockingIOError):
        for _ in range(TURN):
            switch.take(plugged.recv(MOST), port, time.monotonic())


def send_out(switch: Switch, plugs: list[socket.socket]) -> None:
    """Sends what is due."""
    for port, frame in switch.due(time.monotonic()):
        try:
            plugs[port].send(frame)
            switch.account.carried += 1
        except OSError:  # no room, or the device is down: for a wire both are the frame's end
            switch.account.refused += 1


def overflowed(plugged: socket.socket) -> int:
    """Frames that came while a socket's buffer was full."""
    _, dropped = struct.unpack("=II", plugged.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return int(dropped)


def main() -> None:
    """Says that it is ready, carries, and says at the end what it has done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("devices", nargs="+")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds")
    parser.add_argument("--loss", type=float, default=0.0, help="the share of the frames")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)  # noqa: S311 - replayable trouble, not secrets
    switch = Switch(len(arguments.devices), arguments.delay, arguments.loss, chance)
    os.nice(PRIORITY)
    plugs = [plug(device) for device in arguments.devices]
    print("ready", flush=True)  # noqa: T201 - whoever started it waits for this line
    carry(switch, plugs)
    switch.account.overflowed = sum(map(overflowed, plugs))
    print(switch.account)  # noqa: T201


if __name__ == "__main__":
    main()
