"""cluster.yaml: its schema, how it is found, and its errors.

The launcher's own keys stand here; every other top-level key belongs to the method, whose own model checks it.
Knows nothing of processes, devices or ports, which are the plan's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator

from fednet.errors import UnknownMethod
from fednet.methods import registry
from launch.config import examples
from launch.config.document import KeyPath, YamlDocument, from_values, parse
from launch.config.engines import EngineConfig, LocalEngineConfig, SshEngineConfig, named
from launch.config.feasibility import infeasible
from launch.config.modules import make_importable, named_modules
from launch.config.names import slug, written_name
from launch.config.site_sections import require_site_sections, with_absolute_paths
from launch.config.validation import validate_model
from launch.errors import ConfigError, ConfigProblem, did_you_mean, unknown_method
from nodes.spec import RoundsPolicy, Timing
from protocol.quorum import QuorumPolicy

NodeName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
DRIVER = "driver"
MONITOR = "monitor"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeEntry(_Section):
    """The settings of one node.

    Attributes:
        listen: the address that it binds, `tcp://host:port` or `ipc://path`; none given: the plan chooses.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; none given: that of `devices`.
        host: the machine that it is placed on, of those that the engine has; none given: in turn.
        labels: what its machine must be labelled with, of an engine that knows labels (`ray`).
        data: keys that replace those of the method's `data` at this node.
        model: keys that replace those of the method's `model` at this node, or a model of another `kind`.
        fingerprint: that of its keys, as `fednet keys fingerprint` prints it; any other is refused.
    """

    listen: Annotated[str, StringConstraints(pattern=r"^(tcp://.+:\d+|ipc://.+)$")] | None = None
    device: str | None = None
    host: str | None = None
    labels: dict[str, str] = {}
    data: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}(-[0-9a-f]{4}){7}$")] | None = None

    @property
    def own_sections(self) -> dict[str, dict[str, Any]]:
        """What the node replaces in the method's configuration, by section."""
        return {key: own for key, own in (("data", self.data), ("model", self.model)) if own}


class BusConfig(_Section):
    """How the nodes reach each other.

    Attributes:
        transport: `tcp` on the loopback interface, or `ipc` through sockets in a temporary folder.
        base_port: first port of `tcp`, two for each node; none given: free ones are chosen.
        encoding: how floating-point tensors travel; `raw` is bit-exact.
        policy: when a query goes on with a part of the peers.
        rounds: when a round goes on with a part of the peers.
        timing: how quickly a silent peer counts as lost.
    """

    transport: Literal["tcp", "ipc"] = "tcp"
    base_port: int | None = Field(default=None, ge=1024, le=65000)
    encoding: Literal["raw", "bf16", "fp16", "int8"] = "raw"
    policy: QuorumPolicy = QuorumPolicy()
    rounds: RoundsPolicy = RoundsPolicy()
    timing: Timing = Timing()


class SecurityConfig(_Section):
    """Who may take part.

    Attributes:
        keys: the folder with the keys of `fednet keys`; none given: no keys, and no address beyond loopback.
    """

    keys: Path | None = None


class DevicesConfig(_Section):
    """Where models compute.

    Attributes:
        device: `auto` (CUDA devices in turn where there are any), `cpu`, `cuda` or `cuda:N`.
        threads: threads of a node on the CPU; none given: the cores are divided.
    """

    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)


class ClusterConfig(_Section):
    """The launcher's part of a cluster.yaml.

    Attributes:
        name: the run's name, as it is shown; its slug is that of its folder.
        method: a registered method, or the path of a module that defines one, see `fednet.methods.registry`.
        seed: the one seed of all reproducible randomness.
        nodes: how many clients (then called a1, a2, ...), or the settings of each by name.
        engine: where their processes are started: the name of an engine, or its settings with `kind`.
        bus: how they reach each other.
        devices: where they compute.
        security: who may take part.
    """

    name: Annotated[str, AfterValidator(written_name)]
    method: str
    seed: int = Field(default=0, ge=0, lt=2**63)
    nodes: Annotated[int, Field(ge=1, le=200)] | dict[NodeName, NodeEntry] = 1
    engine: EngineConfig = LocalEngineConfig()
    bus: BusConfig = BusConfig()
    devices: DevicesConfig = DevicesConfig()
    security: SecurityConfig = SecurityConfig()

    @field_validator("nodes")
    @classmethod
    def _usable_names(cls, nodes: int | dict[str, NodeEntry]) -> int | dict[str, NodeEntry]:
        if isinstance(nodes, dict):
            if not nodes:
                raise ValueError("name at least one node, or give their number")
            if taken := {DRIVER, MONITOR} & set(nodes):
                raise ValueError(f"'{min(taken)}' is a name that fednet uses itself: choose another")
        return nodes

    @property
    def slug(self) -> str:
        """What stands for the run's name on the wire and in paths."""
        return slug(self.name)

    @property
    def entries(self) -> dict[str, NodeEntry]:
        """The clients by name, in configuration order."""
        if isinstance(self.nodes, int):
            return {f"a{number}": NodeEntry() for number in range(1, self.nodes + 1)}
        return dict(self.nodes)

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprints that are named, by client."""
        return {name: entry.fingerprint for name, entry in self.entries.items() if entry.fingerprint is not None}


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration in which everything has been checked.

    Attributes:
        cluster: the launcher's part.
        method: the method's part.
        document: where each key came from, for errors that only the plan can find.
    """

    cluster: ClusterConfig
    method: BaseModel
    document: YamlDocument

    def dump(self) -> str:
        """The resolved configuration, every default written out, as a cluster.yaml of its own."""
        values = {**self.cluster.model_dump(mode="json"), **self.method.model_dump(mode="json")}
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> LoadedConfig:
    """Reads a cluster.yaml, a built-in example by its name, or its values, with overrides such as `train.epochs=10`.

    Raises:
        ConfigError: the source does not exist or is wrong; every fault of the document is listed.
    """
    document = from_values(source, overrides) if isinstance(source, Mapping) else parse(*_find(str(source)), overrides)
    folder = Path() if isinstance(source, Mapping) else Path(source).parent
    document = with_absolute_paths(document, folder)
    if "engine" in document.values:
        document = replace(document, values={**document.values, "engine": named(document.values["engine"])})
    if named_modules(document.values):
        make_importable(folder)
    own = {key: value for key, value in document.values.items() if key in ClusterConfig.model_fields}
    rest = {key: value for key, value in document.values.items() if key not in ClusterConfig.model_fields}
    cluster, faults = validate_model(ClusterConfig, own, document)
    schema = _schema(document.values.get("method"), document)
    beside = tuple(ClusterConfig.model_fields)
    method, more = validate_model(schema, rest, document, beside=beside) if schema else (None, [])
    if cluster is None or method is None or faults or more:
        raise ConfigError(*sorted(faults + more, key=lambda problem: problem.line or 0))
    entries = cluster.entries
    require_site_sections(cluster.method, {name: one.own_sections for name, one in entries.items()}, method, document)
    _require_feasible(cluster, method, document)
    _require_hosts(cluster, method, document)
    return LoadedConfig(cluster, method, document)


def load_launchable(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> LoadedConfig:
    """The same, of a cluster whose sites are to be started for the operator.

    Raises:
        ConfigError: as above, or each site is a script that its operator starts.
    """
    loaded = load_config(source, overrides)
    if scripts := registry.find(loaded.cluster.method).scripts:
        hint = f"No launcher starts the sites of {loaded.cluster.method}: start a script for each, with {scripts}."
        raise ConfigError(loaded.document.problem(("method",), "", hint=hint))
    return loaded


def _find(source: str) -> tuple[str, str]:
    """The text behind a path or an example's name, and what to call it in errors."""
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text("utf-8"), source
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(ConfigProblem(source, "a readable UTF-8 text file", str(error))) from error
    if path.is_dir():
        hint = f"Give the file in it: {path / 'cluster.yaml'}" if (path / "cluster.yaml").is_file() else ""
        raise ConfigError(ConfigProblem(source, "a file", "a folder", hint=hint))
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise ConfigError(ConfigProblem(source, "an existing file", hint="Run `fednet examples` for built-in ones."))
    return examples.example_text(source), f"example {source}"


def _schema(method: object, document: YamlDocument) -> type[BaseModel] | None:
    """The model of the method's keys; None where `method` is missing, which the cluster's model reports."""
    if not isinstance(method, str):
        return None
    try:
        definition = registry.find(method)
        registry.require_installed(definition)
    except UnknownMethod as error:
        place = document.place(("method",))
        raise ConfigError(unknown_method(error, place.where, place.line, "method")) from error
    return definition.config


def _require_feasible(cluster: ClusterConfig, method: BaseModel, document: YamlDocument) -> None:
    """Refuses what can never be reached with as many clients as there are."""
    bus = cluster.bus
    quorums: dict[KeyPath, int] = {
        ("bus", "policy", "quorum"): bus.policy.quorum,
        ("bus", "rounds", "quorum"): bus.rounds.quorum,
    }
    if faults := infeasible(len(cluster.entries), quorums, method, document):
        raise ConfigError(*faults)


def _require_hosts(cluster: ClusterConfig, method: BaseModel, document: YamlDocument) -> None:
    """Refuses nodes whose host is none of the engine's, and data of a host that nobody would read."""
    known, kind = cluster.engine.host_names, cluster.engine.kind
    faults: list[ConfigProblem] = []
    reads = isinstance(getattr(method, "data", None), BaseModel)
    for name, host in cluster.engine.hosts.items() if isinstance(cluster.engine, SshEngineConfig) else ():
        if host.data is not None and not reads:
            expected = f"no root, as {cluster.method} reads no data set"
            faults.append(document.problem(("engine", "hosts", name, "data"), expected, repr(str(host.data))))
    for name, entry in cluster.entries.items():
        if entry.labels and kind != "ray":
            faults.append(document.problem(("nodes", name, "labels"), f"no labels, as the engine is {kind}"))
        if entry.host is None or known is None or entry.host in known:
            continue
        listed, none = f"one of engine.hosts ({', '.join(known)})", f"no host, as the engine is {kind}"
        expected, hint = listed if known else none, did_you_mean(entry.host, known)
        faults.append(document.problem(("nodes", name, "host"), expected, repr(entry.host), hint))
    if faults:
        raise ConfigError(*faults)
