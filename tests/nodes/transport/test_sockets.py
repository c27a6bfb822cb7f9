"""One socket: whole messages come in with what tells where they came from, and a path in use is refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from nodes.errors import NodeError
from nodes.transport.sockets import descriptor, readable, receive, require_free, send, source


@pytest.fixture
def pair() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    one, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    port = one.bind_to_random_port("tcp://127.0.0.1")
    other.connect(f"tcp://127.0.0.1:{port}")
    yield one, other
    context.destroy(linger=0)


def test_a_message_comes_whole_and_says_which_connection_it_came_by(pair: list[zmq.Socket[bytes]]) -> None:
    one, other = pair
    send(other, [b"topic/", b"header", b""])
    assert one.poll(5000)
    assert readable(one)
    assert descriptor(one) >= 0
    message = receive(one)
    assert message is not None
    assert [bytes(frame) for frame in message.frames] == [b"topic/", b"header", b""]
    with socket.socket(fileno=source(message.first)) as connection:
        assert connection.getpeername()[0] == "127.0.0.1"
        connection.detach()
    assert receive(one) is None


def test_what_was_never_sent_comes_by_no_connection() -> None:
    assert source(zmq.Frame(b"")) == -1


def test_a_path_on_which_somebody_listens_is_refused(tmp_path: Path) -> None:
    require_free(tmp_path / "new" / "a")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "a"))
        listener.listen()
        with pytest.raises(NodeError, match="choose another address"):
            require_free(tmp_path / "a")
    require_free(tmp_path / "a")
