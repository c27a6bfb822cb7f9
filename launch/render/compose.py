"""A run for Docker Compose (compose-spec.io): one service a node, on one machine, in one image.

`docker compose wait driver --down-project` waits for the end and passes its exit code on. A private key is a secret of
its own node's service alone; compose mounts such a file as it is, so that services run as the user to whom it belongs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from launch.config.schema import DRIVER
from launch.render.deployment import CONFIG, KEYS, RUNS, Deployment, RenderedNode, write_files
from launch.render.image import CONTEXT, write_context
from nodes.key_folder import PUBLIC

FILE: Final = "compose.yaml"
COMMAND: Final = "docker compose up --build --detach && docker compose wait driver --down-project"
"""Starts the run, and ends with it."""


def render_compose(deployment: Deployment) -> Path:
    """Writes everything that `docker compose` needs; returns the compose file.

    Raises:
        ConfigError: keys or files cannot be made.
    """
    private, folder = deployment.make_keys(), deployment.folder
    write_context(deployment.loaded, folder)
    public = {f"public/{name}": text for name, text in deployment.public_texts().items()}
    content = yaml.safe_dump(compose_file(deployment, private), sort_keys=False, allow_unicode=True, width=110)
    write_files(folder, {"cluster.yaml": deployment.config, **public, FILE: _HEAD + content})
    for node in deployment.nodes:
        (folder / "runs" / node.name).mkdir(parents=True, exist_ok=True)
    return folder / FILE


_HEAD = f"""\
# Written by `fednet render compose`. From this folder, what ends with the run and with its exit code:
#   {COMMAND}
"""


def _as_seen_from(folder: Path, path: Path) -> str:
    """A path for a compose file in a folder, which may be moved with what lies in it."""
    path, folder = path.absolute(), folder.absolute()
    return f"./{path.relative_to(folder)}" if path.is_relative_to(folder) else str(path)


def compose_file(deployment: Deployment, private: Mapping[str, Path]) -> dict[str, Any]:
    """The compose file's values.

    Args:
        deployment: the run.
        private: everybody's private file.
    """
    secrets = {f"{name}-key": {"file": _as_seen_from(deployment.folder, path)} for name, path in private.items()}
    configs = {f"{name}-public": {"file": f"./public/{name}{PUBLIC}"} for name in private}
    return {
        "name": deployment.label,
        "services": {node.name: _service(deployment, node) for node in deployment.nodes},
        "secrets": secrets,
        "configs": {"cluster": {"file": "./cluster.yaml"}, **configs},
    }


def _service(deployment: Deployment, node: RenderedNode) -> dict[str, Any]:
    hosts = {each.name: each.name for each in deployment.nodes}
    restarts = deployment.loaded.cluster.engine.restarts
    gpu = node.spec.device.partition(":")[2]
    service: dict[str, Any] = {
        "image": deployment.label,
        "build": f"./{CONTEXT}",
        "command": list(node.command(hosts, "cuda:0" if gpu else "cpu")),
        "user": f"{os.getuid()}:{os.getgid()}",
        "restart": f"on-failure:{restarts}" if restarts and node.name != DRIVER else "no",
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "secrets": [{"source": f"{node.name}-key", "target": node.private}],
        "configs": [
            {"source": "cluster", "target": CONFIG},
            {"source": f"{node.name}-public", "target": f"{KEYS}/{node.name}{PUBLIC}"},
        ],
        "volumes": [
            _bind("./public", f"{KEYS}/trusted", read_only=True),
            _bind(f"./runs/{node.name}", RUNS, read_only=False),
            *(_bind(str(root), str(root), read_only=True) for root in node.roots),
        ],
    }
    if gpu:
        device = {"driver": "nvidia", "device_ids": [gpu], "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    if node.name == DRIVER:
        service["depends_on"] = [each.name for each in deployment.clients]
    return service


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    """A folder of the machine, which must exist: a misspelt root is an error and not an empty folder."""
    options = {"create_host_path": False}
    return {"type": "bind", "source": source, "target": target, "read_only": read_only, "bind": options}
