"""The engine `ray` on a cluster of a head and two nodes with GPUs that only Ray believes in."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray", reason="the extra `ray` is not installed")

from launch.config.schema import load_config
from launch.engines.interface import Hint
from launch.engines.ray import RayEngine
from launch.errors import ConfigError
from nodes.spec import NodeSpec

HERE = Path(__file__).parent
SITES = {"a1": {"labels": {"site": "north"}}, "a2": {"labels": {"site": "south"}}, "a3": {}}
pytestmark = [pytest.mark.timeout(1500)]


@pytest.fixture
def stories(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(HERE)
    import stories  # type: ignore[import-not-found]

    return stories


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two machines with two GPUs each, `north` and `south`, and a head without."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_raylet_start_wait_time_s", "120")  # where the machine is busy
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            for site in ("north", "south"):
                made.add_node(num_cpus=2, num_gpus=2, labels={"site": site})
            yield made
        finally:
            made.shutdown()


def loaded(engine: dict[str, Any], nodes: Any = 1) -> Any:
    return load_config({"name": "r", "method": "regression", "nodes": nodes, "engine": {"kind": "ray", **engine}})


async def refused(engine: dict[str, Any], folder: Path, *wanted: Hint) -> str:
    """What is said of clients that cannot be placed."""
    specs = [
        (NodeSpec(f"a{n}", "client", "r", "tcp://127.0.0.1:0", folder=folder), hint) for n, hint in enumerate(wanted)
    ]
    with pytest.raises(ConfigError) as caught:
        async with RayEngine(loaded(engine), folder) as placing:
            await placing.reserve(specs)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "gpus"), [("{a: {device: cpu}, b: {}, c: {device: cuda}}", [0, 0, 1]), ("{a: {}, b: {}}", [0, 0])]
)
def test_a_client_gets_the_gpus_that_it_needs(nodes: str, gpus: list[int]) -> None:
    from launch.engines.choice import hints

    wanted = hints(load_config("regression", ["engine=ray", f"nodes={nodes}"]))
    assert [hint.gpus for hint in wanted.values()] == gpus
    more = hints(load_config("regression", ["engine={kind: ray, gpus: 2}", f"nodes={nodes}"]))
    assert [hint.gpus for hint in more.values()][1:] == [2] * (len(gpus) - 1)


def test_labels_are_for_an_engine_that_knows_them() -> None:
    with pytest.raises(ConfigError, match=r"nodes\.a\.labels: expected no labels, as the engine is local"):
        load_config("regression", ["nodes={a: {labels: {site: north}}}"])


async def test_without_a_cluster_it_is_said_how_to_start_one(tmp_path: Path) -> None:
    text = await refused({"address": "127.0.0.1:1"}, tmp_path)
    assert "engine.address: expected a Ray cluster that is running, got" in text
    assert "ray start --head" in text


@pytest.mark.slow
async def test_what_is_not_there_is_named_and_nothing_is_left(cluster: Any, tmp_path: Path) -> None:
    engine = {"address": cluster.address, "timeout": 3.0}
    many = await refused(engine, tmp_path, *[Hint(gpus=1)] * 5)
    assert (
        "engine: expected 5 CPUs and 5 GPUs for a0, a1, a2, a3, a4 (SPREAD) within 3 s, got 5 CPUs and 4 GPUs" in many
    )
    nowhere = await refused(engine, tmp_path, Hint(labels={"site": "east"}))
    assert "on machines labelled site=east" in nowhere
    async with RayEngine(loaded(engine), tmp_path) as placing:
        assert sorted((await placing.capacity()).gpus.values()) == [0, 2, 2]
        await placing.reserve([(NodeSpec("a1", "client", "r", "tcp://127.0.0.1:0"), Hint(gpus=2))])  # it is free again


@pytest.mark.slow
def test_regression_ends_with_the_models_of_the_local_engine(cluster: Any, stories: Any, tmp_path: Path) -> None:
    here = stories.run(tmp_path / "here", "local", nodes={name: {} for name in SITES})
    there = stories.run(tmp_path / "there", {"kind": "ray", "address": cluster.address, "gpus": 1}, nodes=SITES)
    assert stories.computed(there) == stories.computed(here)
    assert stories.models(there.folder) == stories.models(here.folder)
    seen = {event.node: event.data.get("gpus") for event in there.events if event.kind == "started"}
    assert (seen["a1"], seen["a2"]) == ("0", "0")  # each the first of its machine
    assert seen["a3"] == "1"
    assert "listens on" in (there.folder / "logs" / "a1.log").read_text()
    stories.nobody_is_left(there)


@pytest.mark.slow
def test_a_site_that_was_killed_comes_back(cluster: Any, stories: Any, tmp_path: Path) -> None:
    engine = {"kind": "ray", "address": cluster.address, "gpus": 1, "restart": 1}
    run = stories.loses_a_site_and_goes_on(tmp_path, engine)
    stories.came_back(run)
    stories.nobody_is_left(run)
    assert json.loads((run.folder / "killed.json").read_text())["gpus"] in {"0", "1"}  # one, of its machine's two


@pytest.mark.slow
def test_what_score_inference_draws_is_that_of_the_local_engine(cluster: Any, stories: Any, tmp_path: Path) -> None:
    here = stories.draws(tmp_path / "here", "local")
    there = stories.draws(tmp_path / "there", {"kind": "ray", "address": cluster.address})
    assert stories.drawn(there) == stories.drawn(here)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_nodes_end_with_the_launcher(cluster: Any, stories: Any, tmp_path: Path, number: int) -> None:
    engine = {"kind": "ray", "address": cluster.address}
    stories.check_ends_with_its_launcher(tmp_path / "runs", engine, number)


@pytest.mark.slow
async def test_a_keepers_death_is_its_nodes(cluster: Any, tmp_path: Path) -> None:
    method = load_config("regression", ["nodes=2"]).method
    spec = NodeSpec(
        "a1", "client", "r", "tcp://127.0.0.1:0", count=2, folder=tmp_path, method="regression", config=method
    )
    async with RayEngine(loaded({"address": cluster.address}), tmp_path) as placing, asyncio.timeout(600):
        await placing.reserve([(spec, Hint())])
        handle = await placing.place(spec, Hint())
        node = psutil.Process(handle.details["pid"])
        node.parent().kill()  # type: ignore[union-attr]
        assert await handle.wait() == handle.poll() == -9
        assert "its Ray actor is gone" in handle.log.read_text()
        await asyncio.to_thread(node.wait, 60)
