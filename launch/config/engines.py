"""The section `engine` of a cluster.yaml: where the nodes' processes are started, and how often again.

Only what an engine needs to be told; what it does with it is in `launch.engines`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Restart = Literal["never"] | Annotated[int, Field(ge=1, le=1000)]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")]
Address = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$")]

_Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:,-]*$")]
_Option = Annotated[str, StringConstraints(pattern=r"^-[^\n]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Engine(_Section):
    restart: Restart = "never"

    @property
    def restarts(self) -> int:
        """How many times each client is started again."""
        return 0 if self.restart == "never" else self.restart

    @property
    def host_names(self) -> tuple[str, ...] | None:
        """The hosts that a node may name; None: the engine knows them better than the configuration."""
        return ()


class LocalEngineConfig(_Engine):
    """All nodes on this machine.

    Attributes:
        restart: how many times a client that has died is started again, under its name; `never` by default.
    """

    kind: Literal["local"] = "local"


class SshHost(_Section):
    """A machine that clients are started on over ssh.

    Attributes:
        address: its name or number for ssh; none given: what it is called here, as in `ssh NAME`.
        port: of its ssh server; none given: what the configuration of ssh says, or 22.
        user: who logs in; none given: the same.
        python: its Python, in which fednet is installed.
        folder: where its clients keep what they learn, below the home folder unless absolute.
        data: the root of its data set, in place of the method's `data.root`.
        devices: numbers of the GPUs that its clients take in turn; none: they compute on the CPU.
        listen: the name or number at which other nodes reach it; none given: where ssh does.
    """

    address: Address | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    user: str | None = None
    python: str = "python3"
    folder: Path = Path("fednet-runs")
    data: Path | None = None
    devices: tuple[Annotated[int, Field(ge=0, le=127)], ...] = ()
    listen: Address | None = None


class SshEngineConfig(_Engine):
    """Clients on machines that are reached by ssh; the driver stays on this one.

    Attributes:
        hosts: the machines, by what they are called here.
        address: the name or number at which the hosts reach this machine; none given: what ssh connects from.
        identity: the private key to log in with; none given: those of the agent and of `~/.ssh`.
        known_hosts: the file with the keys of the hosts; none given: `~/.ssh/known_hosts`.
        timeout: seconds for a connection.
    """

    kind: Literal["ssh"]
    hosts: Annotated[dict[HostName, SshHost], Field(min_length=1)]
    address: Address | None = None
    identity: Path | None = None
    known_hosts: Path | None = None
    timeout: float = Field(default=20.0, gt=0)

    @property
    def host_names(self) -> tuple[str, ...] | None:
        """Those that are listed."""
        return tuple(self.hosts)


class _SchedulerConfig(_Engine):
    """An engine that hands out what machines have.

    Attributes:
        gpus: GPUs for each client that does not say `device: cpu`; one that says `cuda` gets one at least.
        cpus: processors for each client.
    """

    gpus: int = Field(default=0, ge=0, le=64)
    cpus: int = Field(default=1, ge=1, le=1024)


class RayEngineConfig(_SchedulerConfig):
    """Clients on a Ray cluster; the driver stays on this machine, which is one of the cluster.

    Attributes:
        address: of the cluster's head, `host:port`; `auto`: the cluster that this machine belongs to.
        strategy: `SPREAD` over the machines as far as possible, or `PACK` on few; `STRICT_` refuses anything else.
        timeout: seconds for what the clients need to be free.
        folder: where clients keep what they learn, on every machine; none given: the path of the run's folder.
    """

    kind: Literal["ray"]
    address: Annotated[str, StringConstraints(pattern=r"^(auto|[A-Za-z0-9._-]+:[0-9]{1,5})$")] = "auto"
    strategy: Literal["SPREAD", "PACK", "STRICT_SPREAD", "STRICT_PACK"] = "SPREAD"
    timeout: float = Field(default=60.0, gt=0)
    folder: Path | None = None


class SlurmEngineConfig(_SchedulerConfig):
    """All nodes in one job of Slurm, in a run's folder that its machines share.

    Attributes:
        partition: of the job; none given: Slurm's default.
        account: that the job is charged to.
        time: its limit, as `sbatch --time` takes it.
        options: more options of sbatch, such as `--constraint=ib`.
        setup: shell commands before the nodes are started, such as `module load cuda`.
        python: the Python with fednet on the job's machines; none given: the path of this one.
        interface: the network interface that nodes bind, such as `ib0`; none given: that of the machine's name.
        address: the name or number at which the job's machines reach this one; none given: its name.
    """

    kind: Literal["slurm"]
    partition: _Word | None = None
    account: _Word | None = None
    time: _Word | None = None
    options: tuple[_Option, ...] = ()
    setup: tuple[str, ...] = ()
    python: str | None = None
    interface: _Word | None = None
    address: Address | None = None

    @property
    def host_names(self) -> tuple[str, ...] | None:
        """Slurm knows them."""
        return None


EngineConfig = Annotated[
    LocalEngineConfig | SshEngineConfig | RayEngineConfig | SlurmEngineConfig, Field(discriminator="kind")
]


def named(given: Any) -> Any:
    """The section as it is validated, where only the engine's name is given, or no name, which is the default's."""
    if isinstance(given, str):
        return {"kind": given}
    return {"kind": "local", **given} if isinstance(given, dict) else given
