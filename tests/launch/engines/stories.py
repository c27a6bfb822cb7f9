"""What every engine is tested with: a run of `regression` to its end, and one that loses a site and goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil

import fednet

NODES = 3
PATIENCE = 200.0
LOOK = 0.05


def run(out: Path, engine: Any, rounds: int = 5, **more: Any) -> Any:
    """A run to its end; blocks."""
    settings = {"nodes": NODES, "devices": {"threads": 1}, "rounds": rounds, **more}
    return fednet.launch("regression", out=out, engine=engine, **settings)


def loses_a_site_and_goes_on(out: Path, engine: Any, site: str = "a2") -> Any:
    """A run in which a site is killed, and stopped once that one takes part again; blocks."""
    settings: dict[str, Any] = {"nodes": NODES, "devices": {"threads": 1}, "rounds": 400, "steps": 1}
    with fednet.launch("regression", out=out, engine=engine, background=True, **settings) as handle:
        wait_for(handle, all_take_part)
        first = next(event for event in events(handle) if (event.node, event.kind) == (site, "joined"))
        os.kill(process_at(first), signal.SIGKILL)
        (handle.folder / "killed.json").write_text(json.dumps(time.time()))
        again = wait_for(handle, lambda happened: nth(happened, site, "joined", 2))
        wait_for(handle, lambda happened: all_take_part(happened, again.time))
    return fednet.Run(handle.folder)


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


def process_at(joined: Any) -> int:
    """The process that listens at the address of a node on this machine."""
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
