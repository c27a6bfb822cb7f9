"""A session with a small cluster that stays up: its sites run on a thread of the test's process."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import fednet
from fednet.api import Network, Progress, Question
from launch.config.schema import load_config
from launch.errors import ConfigError
from launch.run.plan import node_spec
from nodes.client import run_client
from nodes.errors import MethodMismatch
from nodes.run import run_visit
from nodes.spec import NodeSpec

HERE = Path(__file__).parent
NAMES = ("a1", "a2")


@contextmanager
def cluster_of(method: str, **settings: Any) -> Iterator[str]:
    """Sites of a method that are up on a thread; the address of the first."""
    loaded = load_config({"name": "tiny", "method": method, "nodes": len(NAMES), **settings})
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def sites(folder: Path) -> None:
        where = {name: f"ipc://{folder}/{name}" for name in NAMES}
        clients: list[Any] = []
        for index, name in enumerate(NAMES):
            others = [where[other] for other in NAMES if other != name]
            spec = node_spec(loaded, name, "client", folder, listen=where[name], join=others, index=index)
            clients.append(run_client(spec, stop))
        await asyncio.gather(*clients)

    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as folder:
        thread = threading.Thread(target=lambda: loop.run_until_complete(sites(Path(folder))), name="sites")
        thread.start()
        address, first = f"ipc://{folder}/a1", f"ipc://{folder}/first"
        try:
            run_visit(NodeSpec("first", "guest", "", first, join=(address,), expected=NAMES), _nothing)
            yield address  # who comes from here on is told by the first site of the other
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()


def _nothing(_network: Network, _progress: Progress) -> None:
    """The job of a guest that only waits until all sites are ready."""


@contextmanager
def session_with(address: str, **options: Any) -> Iterator[fednet.Session]:
    with (
        tempfile.TemporaryDirectory(prefix="g-", dir="/tmp") as folder,
        fednet.connect(address, listen=f"ipc://{folder}/guest", **options) as session,
    ):
        yield session


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a site of a regression that is up."""
    with cluster_of("regression", steps=2) as address:
        yield address


@pytest.fixture
def words() -> Iterator[fednet.Session]:
    """A session with a cluster of a method from outside the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        with cluster_of("scripted.words") as address, session_with(address, method="scripted.words") as session:
            yield session


@pytest.fixture
def session(address: str) -> Iterator[fednet.Session]:
    with session_with(address) as session:
        yield session


def test_a_session_draws_what_the_method_draws(words: fednet.Session) -> None:
    drawn = words.sample(count=3, brightness=0.5)
    assert drawn.notes == NAMES
    assert torch.equal(drawn.images, torch.full((3, 1, 2, 2), 0.5))
    with pytest.raises(ConfigError, match="count"):
        words.sample(count=0)
    with pytest.raises(ConfigError, match="colour"):
        words.sample(colour="red")


def test_a_session_has_words_exchanged(words: fednet.Session) -> None:
    record = words.exchange(task="learn")
    assert record.offered == {name: {"word": 1} for name in NAMES}
    assert record.values == {name: {"words": 1.0} for name in NAMES}
    known = words.ask("known").by_node
    assert {name: sorted(reply) for name, reply in known.items()} == {"a1": ["a2"], "a2": ["a1"]}
    assert torch.equal(known["a1"]["a2"], torch.full((1, 4), 2.0))


def test_a_session_asks_and_has_rounds_held(session: fednet.Session) -> None:
    assert list(session.capabilities) == list(NAMES)
    assert session.methods == dict.fromkeys(NAMES, "regression")
    x = torch.tensor([[5.0]])
    before = session.ask("predict", {"x": x})
    (record,) = session.rounds(model="line", task="train", federation={"rule": {"kind": "mean"}})
    assert sorted(record.weights) == list(NAMES)
    after = session.ask(Question("predict", {"x": x}))
    assert not torch.equal(before.by_node["a1"]["y"], after.by_node["a1"]["y"])
    assert torch.equal(after.by_node["a1"]["y"], after.by_node["a2"]["y"])
    alone = session.ask("predict", {"x": x}, to=["a2"], alone=1)
    assert list(alone.by_node) == ["a2"]


async def test_a_session_inside_a_running_loop_says_what_cannot_be_drawn(session: fednet.Session) -> None:
    with pytest.raises(ConfigError, match="The method regression has no samples to draw"):
        session.sample(count=1)


def test_a_cluster_of_another_method_is_refused(address: str) -> None:
    with tempfile.TemporaryDirectory(prefix="g-", dir="/tmp") as folder, pytest.raises(MethodMismatch):
        fednet.connect(address, listen=f"ipc://{folder}/guest", method="novelty")
