"""A run for Kubernetes (>= 1.33): an Indexed Job of the clients, a Job of the driver, and a headless Service.

Every pod of the clients' Job has the same template: its index says which node it is, by its start script and by the one
private key of the Secret that is mounted into it. Pods keep their names in the Service when they are started anew, each
as often as `engine.restart` says; an error that a restart does not mend, and what the cluster itself evicts, count
otherwise. The driver's Job is over when the run is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from launch.config.schema import DRIVER
from launch.errors import (
    EXIT_CONFIG_ERROR,
    EXIT_DISK_FULL,
    EXIT_METHOD_ERROR,
    EXIT_MODELS_DIFFER,
    ConfigError,
    ConfigProblem,
)
from launch.render.deployment import CONFIG, KEYS, PORT, RUNS, Deployment, RenderedNode, write_files
from launch.render.image import USER, write_context
from nodes.key_folder import PUBLIC

RUN_FILE: Final = "kubernetes.yaml"
SECRETS_FILE: Final = "secrets.yaml"

_LABEL = "app.kubernetes.io/instance"
_OWN_KEY, _PUBLIC, _START = "/secret/own.key", "/public", "/start"
_FINAL = (EXIT_CONFIG_ERROR, EXIT_METHOD_ERROR, EXIT_DISK_FULL, EXIT_MODELS_DIFFER)
"""Exit codes of errors that come again however often a node is started."""


@dataclass(frozen=True)
class KubernetesOptions:
    """What the cluster.yaml does not say.

    Attributes:
        image: the image's name, as the cluster pulls it.
        gpus: GPUs of each client's pod, 0 or 1.
        memory: what each pod asks for, as Kubernetes writes it.
        data: persistent volume claims by where they are mounted, read-only, in every pod.
    """

    image: str
    gpus: int
    memory: str
    data: Mapping[Path, str]


def render_kubernetes(deployment: Deployment, options: KubernetesOptions) -> Path:
    """Writes the image's context, `kubernetes.yaml`, and `secrets.yaml` for its owner alone; returns the former.

    Raises:
        ConfigError: keys or files cannot be made, or data of a node are not in a claim.
    """
    _require_claims(deployment, options.data)
    private, folder = deployment.make_keys(), deployment.folder
    write_context(deployment.loaded, folder)
    texts = {name: path.read_text("utf-8") for name, path in private.items()}
    write_files(folder, {SECRETS_FILE: _documents(secrets(deployment, texts))}, private=True)
    write_files(folder, {RUN_FILE: _HEAD + _documents(manifests(deployment, options))})
    return folder / RUN_FILE


_HEAD = """\
# Written by `fednet render kubernetes`; docs/how-to/kubernetes.md says how to start, watch and end the run.
"""


def secrets(deployment: Deployment, private: Mapping[str, str]) -> list[dict[str, Any]]:
    """The private keys: those of the clients by their index, of which a pod gets its own, and the driver's.

    Args:
        deployment: the run.
        private: everybody's private file, by name.
    """
    name = deployment.label
    of_clients = {f"{index}.key": private[node.name] for index, node in enumerate(deployment.clients)}
    return [
        {**_head("v1", "Secret", f"{name}-keys", name), "type": "Opaque", "stringData": of_clients},
        {
            **_head("v1", "Secret", f"{name}-driver-key", name),
            "type": "Opaque",
            "stringData": {"own.key": private[DRIVER]},
        },
    ]


def manifests(deployment: Deployment, options: KubernetesOptions) -> list[dict[str, Any]]:
    """Everything but the secrets; the keys have been made."""
    name = deployment.label
    hosts = {node.name: f"{name}-{index}.{name}" for index, node in enumerate(deployment.clients)}
    hosts[DRIVER] = f"{name}-driver.{name}"
    device = "cuda:0" if options.gpus else "cpu"
    scripts = {f"{index}.sh": _script(node, hosts, device) for index, node in enumerate(deployment.clients)}
    scripts[f"{DRIVER}.sh"] = _script(deployment.driver, hosts, "cpu")
    return [
        _service(name),
        {**_head("v1", "ConfigMap", f"{name}-config", name), "data": {"cluster.yaml": deployment.config}},
        {**_head("v1", "ConfigMap", f"{name}-public", name), "data": deployment.public_texts()},
        {**_head("v1", "ConfigMap", f"{name}-start", name), "data": scripts},
        _claim(name),
        _clients_job(name, deployment, options),
        _driver_job(name, deployment, options),
    ]


def _script(node: RenderedNode, hosts: Mapping[str, str], device: str) -> str:
    """What a pod runs: its keys put into a folder of its own, as volumes are everybody's in the pod; then the node."""
    return "\n".join((
        "set -eu",
        "umask 077",
        f"mkdir -p {KEYS}/trusted",
        f"cp {_OWN_KEY} {node.private}",
        f"cp {_PUBLIC}/{node.name}{PUBLIC} {KEYS}/",
        f"cp {_PUBLIC}/*{PUBLIC} {KEYS}/trusted/",
        f"exec {shlex.join(node.command(hosts, device))}",
        "",
    ))  # fmt: skip


def _service(name: str) -> dict[str, Any]:
    ports = [{"name": "messages", "port": PORT}, {"name": "heartbeats", "port": PORT + 1}]
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {_LABEL: name}, "ports": ports}
    return {**_head("v1", "Service", name, name), "spec": spec}


def _claim(name: str) -> dict[str, Any]:
    """Where the driver leaves the results."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    return {**_head("v1", "PersistentVolumeClaim", f"{name}-results", name), "spec": spec}


def _clients_job(name: str, deployment: Deployment, options: KubernetesOptions) -> dict[str, Any]:
    count = len(deployment.clients)
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    container = {
        "env": [{"name": "NODE_INDEX", "valueFrom": index}],
        "args": [f'exec sh "{_START}/$NODE_INDEX.sh"'],
        "resources": _resources(deployment, options.memory, options.gpus),
        "volumeMounts": [
            {"name": "secret", "mountPath": _OWN_KEY, "subPathExpr": "$(NODE_INDEX).key", "readOnly": True}
        ],
    }
    runs = {"name": "runs", "emptyDir": {}}
    template = _template(name, {}, container, [_secret(f"{name}-keys"), runs], options)
    spec = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimitPerIndex": deployment.loaded.cluster.engine.restarts,
        "podFailurePolicy": {"rules": [_EVICTIONS, _final_errors()]},
        "template": template,
    }
    return {**_head("batch/v1", "Job", name, name), "spec": spec}


def _driver_job(name: str, deployment: Deployment, options: KubernetesOptions) -> dict[str, Any]:
    container = {
        "args": [f"exec sh {_START}/{DRIVER}.sh"],
        "resources": _resources(deployment, options.memory, 0),
        "volumeMounts": [_own_key(subPath="own.key")],
    }
    runs = {"name": "runs", "persistentVolumeClaim": {"claimName": f"{name}-results"}}
    template = _template(
        name, {"hostname": f"{name}-driver"}, container, [_secret(f"{name}-driver-key"), runs], options
    )
    spec = {"backoffLimit": 0, "podFailurePolicy": {"rules": [_EVICTIONS]}, "template": template}
    return {**_head("batch/v1", "Job", f"{name}-driver", name), "spec": spec}


def _template(
    name: str,
    more: Mapping[str, Any],
    container: Mapping[str, Any],
    volumes: Sequence[Mapping[str, Any]],
    options: KubernetesOptions,
) -> dict[str, Any]:
    """A pod, as far as clients and driver have the same."""
    claims = list(enumerate(options.data.items()))
    own = {
        "name": "node",
        "image": options.image,
        "command": ["sh", "-c"],
        "ports": [{"containerPort": PORT}, {"containerPort": PORT + 1}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    mounts = [
        {"name": "config", "mountPath": CONFIG, "subPath": "cluster.yaml", "readOnly": True},
        {"name": "public", "mountPath": _PUBLIC, "readOnly": True},
        {"name": "start", "mountPath": _START, "readOnly": True},
        {"name": "keys", "mountPath": str(Path(KEYS).parent)},
        {"name": "runs", "mountPath": RUNS},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
        *({"name": f"data-{number}", "mountPath": str(path), "readOnly": True} for number, (path, _) in claims),
    ]
    spec = {
        **more,
        "subdomain": name,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{**own, **container, "volumeMounts": [*mounts, *container["volumeMounts"]]}],
        "volumes": [
            *({"name": each, "configMap": {"name": f"{name}-{each}"}} for each in ("config", "public", "start")),
            {"name": "keys", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
            {"name": "tmp", "emptyDir": {}},
            *volumes,
            *(
                {"name": f"data-{number}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
                for number, (_, claim) in claims
            ),
        ],
    }  # fmt: skip
    return {"metadata": {"labels": {_LABEL: name}}, "spec": spec}


def _secret(name: str) -> dict[str, Any]:
    return {"name": "secret", "secret": {"secretName": name, "defaultMode": 0o440}}


def _own_key(**part: str) -> dict[str, Any]:
    """The mount of the one key of a secret that is the pod's."""
    return {"name": "secret", "mountPath": _OWN_KEY, **part, "readOnly": True}


def _resources(deployment: Deployment, memory: str, gpus: int) -> dict[str, Any]:
    requests = {"cpu": str(deployment.driver.spec.threads), "memory": memory}
    return {"requests": requests, **({"limits": {"nvidia.com/gpu": gpus}} if gpus else {})}


_EVICTIONS = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
"""What the cluster itself evicts is started again, whoever it is."""


def _final_errors() -> dict[str, Any]:
    """Errors that would come again are a client's last."""
    codes = {"containerName": "node", "operator": "In", "values": sorted(_FINAL)}
    return {"action": "FailIndex", "onExitCodes": codes}


def _head(version: str, kind: str, name: str, run: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": {_LABEL: run}}}


def _documents(values: Sequence[Mapping[str, Any]]) -> str:
    return yaml.safe_dump_all(values, sort_keys=False, allow_unicode=True, width=110)


def _require_claims(deployment: Deployment, data: Mapping[Path, str]) -> None:
    """Refuses a folder of data that no pod would have."""
    for node in deployment.nodes:
        for root in node.roots:
            if not any(root.is_relative_to(path) for path in data):
                hint = "Roots are paths in the pods: --data CLAIM:PATH mounts a persistent volume claim there."
                raise ConfigError(ConfigProblem(f"data of {node.name}", f"{root} in a claim", hint=hint))
