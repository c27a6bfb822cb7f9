"""Asks at one address whether the peer that is expected there can be heard, and why not.

For those who look before a run (`fednet doctor`): it connects to the peer's heartbeats as a member would, with the
same keys, and tells the first thing that is in the way. It says nothing to anybody and takes no part.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Literal

import zmq
from zmq.utils.monitor import recv_monitor_message

from nodes.transport.addresses import needs_ipv6
from protocol import codec
from protocol.errors import WireError
from protocol.header import VERSION
from protocol.messages import Heartbeat
from protocol.security.authentication import SIGNATURE_FRAME_BYTES
from protocol.security.keys import Keyring, PublicKeys
from protocol.topics import HEARTBEATS, heartbeat_address

STEP_TIMEOUT = 3.0
"""Seconds for each of: a connection, a handshake and a heartbeat."""

ProbeState = Literal["heard", "not up", "unreachable", "keys", "version", "run", "name", "silent"]

_AUTH, _DONE = zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_SUCCEEDED
_EVENTS = _AUTH | _DONE | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


@dataclass(frozen=True)
class ProbeResult:
    """What is at an address.

    Attributes:
        state: `heard`, or what is in the way; `not up`: its machine answers, and nobody listens there.
        about: the same in words, with what was expected.
        ahead: by how many seconds its clock is ahead of ours, where it was heard.
    """

    state: ProbeState
    about: str
    ahead: float = 0.0


def probe(
    name: str, address: str, run: str, keys: Keyring | None, patience: float = STEP_TIMEOUT, *, me: str = ""
) -> ProbeResult:
    """Looks for a peer.

    Args:
        name: who should be there, a node or a relay; empty for anybody, without keys.
        address: where its messages are bound; its heartbeats are beside it.
        run: the run that it should belong to; empty for any.
        keys: ours; None if it should have none either.
        patience: seconds for each step.
        me: whose own heartbeats a relay may give back.
    """
    public = keys.at_address(name) if keys else None
    if keys and public is None:
        return ProbeResult("keys", f"the key of {name or 'nobody'} is not trusted here: `fednet keys trust` it")
    beat = heartbeat_address(address)
    named = f"{address} (port {beat.rpartition(':')[2]} of its heartbeats)"
    if (trouble := reach(beat, patience, named)) is not None:
        return trouble
    with zmq.Context() as context, context.socket(zmq.SUB) as ear:
        ear.linger = 0
        if keys is not None and public is not None:
            ear.curve_secretkey = bytes.fromhex(keys.own.curve)
            ear.curve_publickey = bytes.fromhex(keys.own.public.curve)
            ear.curve_serverkey = bytes.fromhex(public.curve)
        ear.ipv6 = needs_ipv6(beat)
        ear.subscribe(HEARTBEATS)
        monitor = ear.get_monitor_socket(_EVENTS)
        ear.connect(beat)
        try:
            trouble = _handshake(monitor, public, beat, keys, patience)
            return trouble or _await_heartbeat(ear, "" if keys and name in keys.relays else name, run, patience, me)
        finally:
            ear.disable_monitor()


def reach(address: str, patience: float, named: str = "") -> ProbeResult | None:
    """What keeps a connection from being made at all; None where nothing does, or the address is none of tcp.

    `named` is what a person knows the address by.
    """
    if not address.startswith("tcp://"):
        return None
    named = named or address
    try:
        _connected(address, patience).close()
    except ConnectionRefusedError:
        return ProbeResult("not up", f"nobody listens at {named} yet")
    except (socket.gaierror, UnicodeError) as error:  # the latter of labels that are empty or too long
        why = getattr(error, "strerror", None) or error
        return ProbeResult("unreachable", f"the host of {named} cannot be resolved: {why}")
    except OSError as error:
        return ProbeResult("unreachable", f"no connection to {named}: {error.strerror or error or 'no answer'}")
    return None


def _connected(address: str, patience: float) -> socket.socket:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), patience)


def _handshake(
    monitor: zmq.Socket[bytes], public: PublicKeys | None, address: str, keys: Keyring | None, patience: float
) -> ProbeResult | None:
    """Whether both sides agree on who they are."""
    if not monitor.poll(int(1000 * patience)):
        return ProbeResult("silent", "no handshake: what listens there does not speak ZeroMQ")
    occurrence = recv_monitor_message(monitor)
    if occurrence["event"] == _DONE:
        return None
    if keys is None or public is None:
        return ProbeResult("keys", "who answers there has keys, and here are none")
    if occurrence["event"] == _AUTH:
        return ProbeResult("keys", f"{public.name} does not trust {keys.own.name}, {keys.own.public.fingerprint}")
    if _mechanism(address, patience) == b"NULL":
        return ProbeResult("keys", f"{public.name} runs without keys")
    return ProbeResult("keys", f"who answers does not hold the key of {public.name}, {public.fingerprint}")


def _mechanism(address: str, patience: float) -> bytes:
    """How who listens there wants to be spoken to, by the greeting of ZMTP 3 (RFC 23); empty if it does not say."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    if not address.startswith("tcp://"):
        return b""
    answer = b""
    try:
        with _connected(address, patience) as peer:
            peer.sendall(greeting)
            while len(answer) < len(greeting) and (more := peer.recv(len(greeting) - len(answer))):
                answer += more
    except OSError:
        return b""
    return answer[12:32].rstrip(b"\0")


def _await_heartbeat(ear: zmq.Socket[bytes], name: str, run: str, patience: float, me: str) -> ProbeResult:
    """What the first heartbeat says that is not our own."""
    deadline = time.monotonic() + patience
    while ear.poll(max(0, int(1000 * (deadline - time.monotonic())))):
        frames = ear.recv_multipart()
        if len(frames) > 1 and len(frames[1]) > 1 and frames[1][1] != VERSION:
            about = f"it speaks version {frames[1][1]} of the wire, and this is {VERSION}: install the same"
            return ProbeResult("version", about)
        try:
            envelope = codec.decode(frames[:-1] if len(frames[-1]) == SIGNATURE_FRAME_BYTES else frames)
        except WireError as error:
            return ProbeResult("silent", f"what it says is no heartbeat: {error}")
        if me and envelope.sender == me:
            continue
        if run and envelope.run != run:
            return ProbeResult("run", f"it belongs to the run {envelope.run}, and this is {run}")
        if name and envelope.sender != name:
            return ProbeResult("name", f"it is {envelope.sender}, not {name}")
        beat = envelope.message
        return ProbeResult("heard", "up, and heard", beat.clock - time.time() if isinstance(beat, Heartbeat) else 0.0)
    return ProbeResult("silent", f"no heartbeat within {patience:.0f} s")
