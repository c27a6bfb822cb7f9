"""What every engine is tested with: runs to their end, one that loses a site, and one that loses its launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

import fednet
from launch.engines.node_file import CUDA_VISIBLE

NODES = 3
PATIENCE = 600.0
"""Seconds for what takes seconds: only a run that hangs is to fail, not one on a busy machine."""
LOOK = 0.05
LONG = {"method": "regression", "nodes": NODES, "devices": {"threads": 1}, "rounds": 1500, "steps": 1}
"""A run that goes on for longer than a site needs to come back; each site trains as many steps alone first."""
TINY = {
    "name": "tiny", "method": "score-inference", "seed": 3, "nodes": 2, "devices": {"threads": 1},
    "data": {"name": "digits", "limit": 60}, "model": {"channels": [8], "groups": 4, "attention": False},
    "train": {"epochs": 1}, "sampler": {"kind": "euler-maruyama", "steps": 4}, "samples": {"total": 8},
    "arms": {"mixture": {"rule": "mixture"}}, "measure": None, "evaluate": {"judge": False, "agreement": 0},
}  # fmt: skip
ENDS_WITHIN = 60.0
"""Seconds after which a node has ended with its launcher, on a busy machine."""


def run(out: Path, engine: Any, rounds: int = 5, **more: Any) -> Any:
    """A run to its end; blocks."""
    settings = {"nodes": NODES, "devices": {"threads": 1}, "rounds": rounds, **more}
    return fednet.launch("regression", out=out, engine=engine, **settings)


def ends(python: Any, out: Path, engine: Any, rounds: int = 5, **more: Any) -> tuple[int, str]:
    """The same as a command, forked of a warm Python: its exit code and its last words; blocks."""
    settings = {"nodes": NODES, "devices": {"threads": 1}, "rounds": rounds, "engine": engine, **more}
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    out.mkdir()
    with (out / "said").open("w") as said:
        command = ["launch", "regression", "--out", str(out), *given]
        streams = {"stdout": said.fileno(), "stderr": said.fileno()}
        code = python.start(command, cwd=out, env={**os.environ, "COLUMNS": "200"}, **streams).wait(PATIENCE)
    return code, (out / "said").read_text()


def run_warm(python: Any, out: Path, engine: Any, **more: Any) -> Any:
    """A run to its end, by a launcher that is forked of a warm Python; blocks."""
    code, said = ends(python, out, engine, **more)
    assert code == 0, said
    return fednet.Run(out / "regression")


def loses_a_site_and_goes_on(out: Path, engine: Any, site: str = "a2") -> Any:
    """A run in which a site is killed, and stopped once that one takes part again; blocks.

    Leaves in `killed.json` when that was, and which GPUs the site saw.
    """
    with fednet.launch({**LONG, "name": "regression", "engine": engine}, out=out, background=True) as handle:
        wait_for(handle, all_take_part)
        node = psutil.Process(process_at(handle, site))
        seen = node.environ().get(CUDA_VISIBLE)
        node.kill()
        (handle.folder / "killed.json").write_text(json.dumps({"time": time.time(), "gpus": seen}))
        again = wait_for(handle, lambda happened: nth(happened, site, "joined", 2))
        wait_for(handle, lambda happened: all_take_part(happened, again.time))
    return fednet.Run(handle.folder)


class LaunchedProcess:
    """A launch in a process of its own, which blocks nobody.

    Attributes:
        folder: of its run.
    """

    def __init__(self, out: Path, engine: Any) -> None:
        self.folder, config, self._said = out / "long", out / "long.yaml", out / "said"
        config.write_text(json.dumps({**LONG, "name": "long", "engine": engine}))
        command = [sys.executable, "-m", "launch", "launch", str(config), "--out", str(out)]
        with self._said.open("w") as said:
            self.process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> Any:
        raise AssertionError(self._said.read_text())


def ends_with_its_launcher(out: Path, engine: Any, number: int) -> tuple[int, Any]:
    """The exit code and the run of a launcher that gets a signal; its nodes have ended soon after. Blocks."""
    out.mkdir(exist_ok=True)
    launched = LaunchedProcess(out, engine)
    try:
        wait_for(launched, all_take_part)
        nodes = [psutil.Process(process_at(launched, name)) for name in ("a1", "a2", "a3", "driver")]
        launched.process.send_signal(number)
        _, alive = psutil.wait_procs(nodes, timeout=ENDS_WITHIN)
        assert not alive, alive
        return launched.process.wait(ENDS_WITHIN), fednet.Run(launched.folder)
    finally:
        launched.process.kill()


def check_ends_with_its_launcher(out: Path, engine: Any, number: int) -> None:
    """SIGTERM ends everything in order and leaves a report; SIGKILL ends the nodes all the same."""
    code, run = ends_with_its_launcher(out, engine, number)
    if number == signal.SIGKILL:
        assert code == -number
        return
    assert code == 128 + number
    assert sorted(told(run, "stopped")) == ["a1", "a2", "a3", "driver"]
    assert (run.folder / "report.html").is_file()


def drawn(run: Any, *folders: Path) -> dict[str, bytes]:
    """What a run of `score-inference` has drawn and, below these folders or the run's, what its sites have learned."""
    samples = sorted(run.folder.glob("samples/*/*.safetensors"))
    learned = sorted(path for each in folders or (run.folder,) for path in each.rglob("checkpoints/*.safetensors"))
    assert len(samples) == 1
    assert len(learned) == TINY["nodes"]
    return {path.name: path.read_bytes() for path in (*samples, *learned)}


def draws(out: Path, engine: Any) -> Any:
    """A tiny run of `score-inference` to its end; blocks."""
    return fednet.launch({**TINY, "engine": engine}, out=out)


def wait_for(handle: Any, condition: Any) -> Any:
    """What a condition on a run's events gives, once it gives anything."""
    until = time.monotonic() + PATIENCE
    while not (found := condition(events(handle))):
        if not handle.running:
            handle.wait()
        assert time.monotonic() < until, [(event.node, event.kind) for event in events(handle)][-20:]
        time.sleep(LOOK)
    return found


def events(handle: Any) -> list[Any]:
    return fednet.Run(handle.folder).events if (handle.folder / "config.yaml").is_file() else []


def nth(happened: list[Any], node: str, kind: str, count: int) -> Any:
    found = [event for event in happened if (event.node, event.kind) == (node, kind)]
    return found[count - 1] if len(found) >= count else None


def all_take_part(happened: list[Any], after: float = 0.0) -> bool:
    """Whether a round was closed, after a time, with all sites in it."""
    told = [event for event in happened if (event.node, event.kind) == ("driver", "progress") and event.time > after]
    notes = [event.data["note"] for event in told]
    return "a1 a2 a3" in notes


def process_at(handle: Any, name: str) -> int:
    """The process that listens at the address of a node on this machine."""
    joined = next(event for event in events(handle) if (event.node, event.kind) == (name, "joined"))
    port = int(joined.data["address"].rpartition(":")[2])
    for process in psutil.process_iter():
        try:
            if any(each.laddr.port == port and each.status == "LISTEN" for each in process.net_connections("tcp")):
                return process.pid
        except psutil.Error:
            continue
    raise AssertionError(f"nobody listens on {port}")


def models(*folders: Path) -> dict[str, str]:
    """The file of the latest model of each site below these folders, which bears its round and digest."""
    files = sorted((path for each in folders for path in each.rglob("line-*.safetensors")), key=lambda path: path.name)
    found = {path.parent.name.partition("-")[0]: path.stem for path in files}
    return dict(sorted(found.items()))


def computed(run: Any) -> dict[str, Any]:
    """What a run has computed: the digest of every round, and what every site predicted after it."""
    digests = [record["digest"] for record in run.metrics["rounds"]]
    return {"digests": digests, "history": run.metrics["history"], "alone": run.metrics["alone"]}


def told(run: Any, kind: str) -> list[str]:
    """The nodes of which an event of a kind was told."""
    return [event.node for event in run.events if event.kind == kind]


def came_back(run: Any, site: str = "a2") -> None:
    """The site that was killed was started again, once."""
    assert told(run, "restarting") == [site]
    assert told(run, "started").count(site) == 2
    assert not told(run, "died")


def nobody_is_left(run: Any) -> None:
    """No process of a node that was started on this machine lives."""
    pids = [event.data["pid"] for event in run.events if event.kind == "started" and "pid" in event.data]
    gone, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)
    assert not alive, (gone, alive)
