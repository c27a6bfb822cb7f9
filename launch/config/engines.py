"""The section `engine` of a cluster.yaml: where the nodes' processes are started, and how often again.

Only what an engine needs to be told; what it does with it is in `launch.engines`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Restart = Literal["never"] | Annotated[int, Field(ge=1, le=1000)]


class _Engine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    restart: Restart = "never"

    @property
    def restarts(self) -> int:
        """How many times each client is started again."""
        return 0 if self.restart == "never" else self.restart


class LocalEngineConfig(_Engine):
    """All nodes on this machine.

    Attributes:
        restart: how many times a client that has died is started again, under its name; `never` by default.
    """

    kind: Literal["local"] = "local"


def _named(given: Any) -> Any:
    """The section, where only the engine's name is given, or no name, which is that of the default."""
    if isinstance(given, str):
        return {"kind": given}
    return {"kind": "local", **given} if isinstance(given, dict) else given


EngineConfig = Annotated[LocalEngineConfig, BeforeValidator(_named)]
