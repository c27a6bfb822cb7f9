"""Everything one node must know to start: a frozen value that the launcher plans and a process receives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from protocol.quorum import QuorumPolicy
from protocol.security.keys import Keyring

Role = Literal["client", "guest", "monitor"]


class Timing(BaseModel):
    """How quickly a node speaks and loses patience, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heartbeat: float = Field(0.2, gt=0, description="between two heartbeats")
    alert: float = Field(0.75, gt=0, description="without a heartbeat: a peer whose heartbeats were regular is lost")
    silence: float = Field(3.0, gt=0, description="the same for any peer, and until its heartbeats are known")
    broken: float = Field(0.5, gt=0, description="the same once its connection has broken")
    hang: float = Field(30.0, gt=0, description="heartbeats whose event loop stands still: the peer is lost")
    repair: float = Field(0.25, gt=0, description="before a missed message is asked for again")
    ready: float = Field(1800.0, gt=0, description="longest wait for the expected peers to become ready")


class RoundsPolicy(QuorumPolicy):
    """When a round goes on without everybody: a policy with more patience, since a round trains."""

    hard_limit: float = Field(1800.0, gt=0, description="longest a round waits for a living peer")
    cold_start: float = Field(600.0, gt=0, description="deadline before anything is learned")


@dataclass(frozen=True)
class NodeSpec:
    """One node of a run.

    Attributes:
        name: its name, unique in the run.
        role: `client` holds data and a model and answers; `guest` only asks; `monitor` only listens.
        run: the run's name; messages of other runs are ignored. Empty for a visitor: it takes that of its peers.
        listen: the address that it binds, `tcp://host:port` (the heartbeat binds port + 1; port 0 picks free
            ones) or `ipc://path`.
        advertise: the address that others connect to, where it is not `listen`.
        through: the address of a relay, for a node that nobody can connect to: then it binds nothing.
        join: addresses of peers to join through; any one of them suffices. With keys `name@address`: whoever answers
            there must hold that name's key.
        expected: names of the clients that belong to the run; empty for whoever is there.
        index: position among the clients, 0-based.
        count: number of configured clients.
        device: torch device string; `auto`: the first CUDA device that the process sees, or the CPU.
        threads: intra-operation threads of torch.
        seed: the run's seed.
        folder: the run's folder.
        incarnation_file: where it keeps its latest incarnation; None: nowhere, as for a name that is used once.
        method: name of a method, see `fednet.methods.registry`.
        config: the method's validated configuration.
        site: what this site says for itself, over the configuration (for example its own data).
        policy: when its questions go on without everybody.
        rounds: when rounds that it leads, and exchanges that it calls for, go on without everybody.
        timing: its patience.
        encoding: how floating-point tensors travel.
        keys: who it is and whom it trusts; None: whoever can reach it is believed.
        insecure: allow a bind beyond loopback without keys.
        announce: the file in which it announces its address, for others that are started with it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    role: Role
    run: str
    listen: str
    advertise: str | None = None
    through: str | None = None
    join: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()
    index: int = 0
    count: int = 1
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    folder: Path = Path("runs")
    incarnation_file: Path | None = None
    method: str = ""
    config: BaseModel | None = None
    site: dict[str, Any] = field(default_factory=dict)
    policy: QuorumPolicy = field(default_factory=QuorumPolicy)
    rounds: RoundsPolicy = field(default_factory=RoundsPolicy)
    timing: Timing = field(default_factory=Timing)
    encoding: Literal["raw", "bf16", "fp16", "int8"] = "raw"
    keys: Keyring | None = None
    insecure: bool = False
    announce: Path | None = None
