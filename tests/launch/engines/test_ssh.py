"""The engine `ssh` against asyncssh servers on loopback, and the system's `ssh` as a second client."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncssh", reason="the extra `ssh` is not installed")

from launch.config.schema import load_config
from launch.engines.interface import Hint
from launch.engines.node_file import NodeFile
from launch.engines.ssh import SshEngine, SshPlace, deal
from launch.errors import EXIT_PEER_ERROR, ConfigError
from nodes.spec import NodeSpec

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(1500)


@pytest.fixture
def stories(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(HERE)
    import stories  # type: ignore[import-not-found]

    return stories


@pytest.fixture
async def hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Any]:
    monkeypatch.syspath_prepend(HERE)
    import ssh_hosts  # type: ignore[import-not-found]

    async with ssh_hosts.listening(tmp_path, "h1", "h2") as listening:
        yield listening


def settings(hosts: Any, folder: Path, python: str | Path = sys.executable, **more: Any) -> dict[str, Any]:
    """The section `engine` for these hosts, on which this Python starts the nodes."""
    there = {
        name: {"address": "127.0.0.1", "port": port, "python": str(python), "folder": str(folder / name)}
        for name, port in hosts.ports.items()
    }
    keys = {"identity": str(hosts.identity), "known_hosts": str(hosts.known_hosts)}
    return {"kind": "ssh", "hosts": there, **keys, **more}


def dealt(nodes: str, *hosts: str) -> Any:
    loaded = load_config("regression", [f"nodes={nodes}", f"engine={{kind: ssh, hosts: {{{', '.join(hosts)}}}}}"])
    entries = loaded.cluster.entries
    return deal(loaded, {name: (entry.device or "auto", entry.host) for name, entry in entries.items()})


def test_clients_take_hosts_in_turn_and_there_the_gpus() -> None:
    places = dealt("5", "h1: {devices: [2, 3]}", "h2: {}")
    assert [place.host for place in places.values()] == ["h1", "h2", "h1", "h2", "h1"]
    assert [place.visible_gpus for place in places.values()] == ["2", "", "3", "", "2"]
    assert [place.device for place in places.values()] == ["cuda:0", "cpu", "cuda:0", "cpu", "cuda:0"]


def test_a_client_may_name_its_host_and_its_gpu_there() -> None:
    places = dealt("{a: {host: h2, device: 'cuda:5'}, b: {device: cpu}}", "h1: {}", "h2: {devices: [4, 5]}")
    assert (places["a"].host, places["a"].device, places["a"].visible_gpus) == ("h2", "cuda:0", "5")
    assert (places["b"].host, places["b"].visible_gpus) == ("h1", "")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
def test_a_gpu_that_a_host_does_not_have_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.hosts\.h1: expected a GPU of it \(.*\), got {device} for a\."):
        dealt(f"{{a: {{device: '{device}'}}}}", "h1: {}" if device == "cuda" else "h1: {devices: [0]}")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("engine={kind: ssh}", r"engine\.hosts: expected this key"),
        ("engine={kind: ssh, hosts: {}}", r"engine\.hosts: expected"),
        (
            "engine={kind: ssh, hosts: {h1: {data: /scans}}}",
            r"engine\.hosts\.h1\.data: expected no root, as regression reads no data set, got '/scans'",
        ),
        ("nodes={a: {host: h1}}", r"nodes\.a\.host: expected no host, as the engine is local, got 'h1'"),
    ],
)
def test_a_section_that_says_too_little_or_too_much_is_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config("regression", [override])


def test_an_unknown_host_is_refused_with_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"one of engine\.hosts \(alpha\), got 'alpa'\. Did you mean alpha\?"):
        load_config("regression", ["engine={kind: ssh, hosts: {alpha: {}}}", "nodes={a: {host: alpa}}"])


def test_a_node_reads_the_data_of_its_host_unless_it_names_its_own_and_listens_there(tmp_path: Path) -> None:
    hosts = "{h1: {data: /scans, folder: /var/fednet}}"
    loaded = load_config("score-inference", [f"engine={{kind: ssh, hosts: {hosts}}}"])
    engine, place = SshEngine(loaded, tmp_path), SshPlace("h1", "cpu", "")
    engine._reached = {"h1": "10.0.0.5"}
    own = {"data": {"root": "/own", "limit": 3}}
    for site, seen in (({}, {"data": {"root": "/scans"}}), (own, own)):
        there = engine._there(NodeSpec("a1", "client", "r", "tcp://127.0.0.1:7000", folder=tmp_path, site=site), place)
        assert (there.site, there.listen) == (seen, "tcp://10.0.0.5:7000")
        assert there.folder.parent == Path("/var/fednet")


async def reserved(engine: dict[str, Any], folder: Path) -> str:
    """What an engine says to a client that it cannot place."""
    loaded = load_config({"name": "r", "method": "regression", "nodes": 1, "engine": engine})
    spec = NodeSpec("a1", "client", "r", "tcp://127.0.0.1:0", device="auto", folder=folder)
    with pytest.raises(ConfigError) as caught:
        async with SshEngine(loaded, folder) as placing:
            await placing.reserve([(spec, Hint())])
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


async def test_bad_hosts_are_one_sentence_each(hosts: Any, tmp_path: Path) -> None:
    good = settings(hosts, tmp_path)

    def with_host(**change: Any) -> dict[str, Any]:
        return {**good, "hosts": {"h1": {**good["hosts"]["h1"], **change}}}

    (tmp_path / "unknown").write_text("")
    for engine, said in (
        (
            with_host(address="no.such.host.invalid"),
            "expected the name or number of a host, got 'no.such.host.invalid'",
        ),
        (with_host(port=1), "expected a host that answers to ssh, got"),
        (
            {**with_host(), "identity": str(hosts.stranger)},
            "expected a host that lets this user in, got Permission denied",
        ),
        ({**with_host(), "known_hosts": str(tmp_path / "unknown")}, "expected a host whose key is known, got"),
        (with_host(python="/no/python"), "expected fednet"),
    ):
        text = await reserved(engine, tmp_path)
        assert "engine.hosts.h1: " in text
        assert said in text


async def test_regression_ends_with_the_models_of_the_local_engine(
    hosts: Any, stories: Any, tmp_path: Path, warm_python: Any
) -> None:
    here = await asyncio.to_thread(stories.run_warm, warm_python, tmp_path / "here", "local")
    engine = settings(hosts, tmp_path, warm_python.executable(tmp_path))
    there = await asyncio.to_thread(stories.run_warm, warm_python, tmp_path / "there", engine)
    assert stories.computed(there) == stories.computed(here)
    assert stories.models(tmp_path / "h1", tmp_path / "h2") == stories.models(here.folder)
    assert {event.data.get("host") for event in there.events if event.kind == "started"} == {"h1", "h2", None}
    assert "listens on" in (there.folder / "logs" / "a1.log").read_text()


@pytest.mark.slow
async def test_what_score_inference_draws_is_that_of_the_local_engine(hosts: Any, stories: Any, tmp_path: Path) -> None:
    here = await asyncio.to_thread(stories.draws, tmp_path / "here", "local")
    there = await asyncio.to_thread(stories.draws, tmp_path / "there", settings(hosts, tmp_path))
    assert stories.drawn(there, tmp_path / "h1", tmp_path / "h2") == stories.drawn(here)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_its_nodes_end_with_the_launcher(hosts: Any, stories: Any, tmp_path: Path, number: int) -> None:
    engine = settings(hosts, tmp_path)
    await asyncio.to_thread(stories.check_ends_with_its_launcher, tmp_path / "runs", engine, number)


async def test_a_port_that_is_taken_there_ends_the_run_with_its_name(
    hosts: Any, stories: Any, tmp_path: Path, warm_python: Any
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        engine = settings(hosts, tmp_path, warm_python.executable(tmp_path))
        nodes = {"a1": {"listen": address}, "a2": {}}
        code, said = await asyncio.to_thread(stories.ends, warm_python, tmp_path / "runs", engine, nodes=nodes)
    taken_there = f"cannot listen on {address}: address already in use; choose another address"
    assert f"fednet: a1 ended with exit code 3: {taken_there}" in said.splitlines()
    assert code == EXIT_PEER_ERROR


@pytest.mark.slow
async def test_a_site_that_was_killed_comes_back(hosts: Any, stories: Any, tmp_path: Path) -> None:
    engine = settings(hosts, tmp_path, restart=1)
    run = await asyncio.to_thread(stories.loses_a_site_and_goes_on, tmp_path / "runs", engine)
    stories.came_back(run)


async def test_a_node_sees_the_gpu_of_its_host_alone(hosts: Any, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$1" in -c) exec {sys.executable} "$@";; *) exec {sys.executable} {HERE}/sees.py;; esac\n'
    )
    python.chmod(0o755)
    engine = settings(hosts, tmp_path)
    engine["hosts"] = {"h1": {**engine["hosts"]["h1"], "python": str(python), "devices": [3]}}
    loaded = load_config({"name": "r", "method": "regression", "nodes": 1, "engine": engine})
    spec = NodeSpec("a1", "client", "r", "tcp://127.0.0.1:0", device="auto", folder=tmp_path)
    async with SshEngine(loaded, tmp_path) as placing, asyncio.timeout(600):
        await placing.reserve([(spec, Hint())])
        handle = await placing.place(spec, Hint())
        assert await handle.wait() == 0
    assert handle.log.read_text() == "cuda:0 of 3\n"


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
async def test_the_systems_ssh_starts_the_same_node_and_its_end_is_the_nodes(
    hosts: Any, tmp_path: Path, warm_python: Any
) -> None:
    loaded = load_config("regression", ["nodes=2"])
    spec = NodeSpec(
        "a1", "client", "r", "tcp://127.0.0.1:0", count=2, folder=tmp_path, method="regression", config=loaded.method
    )
    options = [
        "-F",
        "none",
        "-i",
        hosts.identity,
        "-o",
        f"UserKnownHostsFile={hosts.known_hosts}",
        "-o",
        "BatchMode=yes",
    ]
    command = [
        "ssh",
        *options,
        "-p",
        str(hosts.ports["h1"]),
        "127.0.0.1",
        f"exec {warm_python.executable(tmp_path)} -m launch node --spec -",
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{NodeFile.of(spec).text()}\n".encode())
    async with asyncio.timeout(600):
        while b"listens on" not in (line := await process.stdout.readline()):
            assert line, "it ended"
        process.stdin.write(b"stop\n")
        assert await process.wait() == 0
