"""The manifests, held strictly against the schemas of Kubernetes, and against what the schemas do not say."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from launch.config.schema import load_config
from launch.errors import ConfigError
from launch.render.deployment import plan_deployment
from launch.render.kubernetes import KubernetesOptions, render_kubernetes
from launch.run.devices import DeviceInventory

VERSIONS = ("1.33", "1.37")
"""The first version in which all is stable that is used, and the newest that the validator knows."""


def rendered(folder: Path, *overrides: str, gpus: int = 0, data: Any = None, example: str = "regression") -> Any:
    """The documents by kind and name."""
    loaded = load_config(example, overrides)
    deployment = plan_deployment(loaded, folder, DeviceInventory(gpus, 1), shared=False)
    render_kubernetes(deployment, KubernetesOptions("registry/fednet:1", gpus, "2Gi", data or {}))
    files = [folder / name for name in ("kubernetes.yaml", "secrets.yaml")]
    documents = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rendered") / "out"


@pytest.fixture(scope="module")
def read(folder: Path) -> Any:
    return rendered(folder, "nodes=3", "name=The 2nd_run", "engine.restart=3", gpus=1)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_valid_and_has_no_unknown_key(read: Any, version: str) -> None:
    for document in read.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_the_validator_refuses_an_unknown_key(read: Any) -> None:
    job = {**read["Job", "fednet-the-2nd-run"], "specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_the_clients_are_an_indexed_job_with_restarts_for_each(read: Any) -> None:
    spec = read["Job", "fednet-the-2nd-run"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["backoffLimitPerIndex"] == 3
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore", "FailIndex"]
    assert read["Job", "fednet-the-2nd-run-driver"]["spec"]["backoffLimit"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    (container,) = spec["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}


def test_pods_are_found_by_the_names_that_they_advertise(read: Any) -> None:
    service = read["Service", "fednet-the-2nd-run"]["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    for name in ("fednet-the-2nd-run", "fednet-the-2nd-run-driver"):
        template = read["Job", name]["spec"]["template"]
        assert service["selector"].items() <= template["metadata"]["labels"].items()
        assert template["spec"]["subdomain"] == "fednet-the-2nd-run"
    scripts = read["ConfigMap", "fednet-the-2nd-run-start"]["data"]
    assert "--advertise tcp://fednet-the-2nd-run-1.fednet-the-2nd-run:7400" in scripts["1.sh"]
    assert "--join a1@tcp://fednet-the-2nd-run-0.fednet-the-2nd-run:7400" in scripts["driver.sh"]


def test_a_pod_sees_its_own_private_key_only(read: Any, folder: Path) -> None:
    template = read["Job", "fednet-the-2nd-run"]["spec"]["template"]["spec"]
    (container,) = template["containers"]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "secret"]
    assert [mount["subPathExpr"] for mount in mounts] == ["$(NODE_INDEX).key"]
    secret = read["Secret", "fednet-the-2nd-run-keys"]["stringData"]
    assert secret["1.key"] == (folder / "keys" / "a2.key").read_text()
    assert set(read["Secret", "fednet-the-2nd-run-driver-key"]["stringData"]) == {"own.key"}
    private = {line for text in secret.values() for line in text.split('"') if len(line) == 64}
    everything_else = (folder / "kubernetes.yaml").read_text()
    assert not [half for half in private if half in everything_else]
    assert stat.S_IMODE((folder / "secrets.yaml").stat().st_mode) == 0o600


def test_every_volume_that_is_mounted_exists(read: Any) -> None:
    for (kind, _), document in read.items():
        if kind == "Job":
            spec = document["spec"]["template"]["spec"]
            volumes = {volume["name"]: volume for volume in spec["volumes"]}
            assert {mount["name"] for mount in spec["containers"][0]["volumeMounts"]} == set(volumes)
            for volume in volumes.values():
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in read
                if "secret" in volume:
                    assert ("Secret", volume["secret"]["secretName"]) in read
                if "persistentVolumeClaim" in volume:
                    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in read


def test_data_come_from_claims_which_must_cover_every_root(tmp_path: Path) -> None:
    sets = ("nodes=2", "data.name=mnist", "data.root=/data/mnist")
    documents = rendered(tmp_path / "a", *sets, data={Path("/data"): "pictures"}, example="score-inference")
    for name in ("fednet-score-inference", "fednet-score-inference-driver"):
        spec = documents["Job", name]["spec"]["template"]["spec"]
        assert {"name": "data-0", "persistentVolumeClaim": {"claimName": "pictures", "readOnly": True}} in spec[
            "volumes"
        ]
        assert {"name": "data-0", "mountPath": "/data", "readOnly": True} in spec["containers"][0]["volumeMounts"]
    with pytest.raises(ConfigError, match=r"data of a1: expected /data/mnist in a claim\. Roots are paths in the pods"):
        rendered(tmp_path / "b", *sets, data={Path("/dat"): "pictures"}, example="score-inference")
