"""What a method is: one typed value, the same for the built-in methods and for those of other packages.

A module defines `METHOD = Method(...)`. It is found by the entry-point group `fednet.methods`, or where cluster.yaml
says `method: my_package.my_module`. The command line imports that module to read a configuration and to list commands,
so neither torch nor a library that it `requires` may be imported at its top: `site` and `job` import what they need
when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, TypeVar, runtime_checkable

from fednet.methods.common.disclosure import Disclosure, question_names

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from torch import nn

    from fednet.api import ModelState, Network, Progress, Responder, RoundPlan, RoundRecord, SiteContext
    from fednet.methods.sample_request import SampleRequest
    from fednet.reporting.samples import SampleBatch

T = TypeVar("T")


class Cluster(Protocol):
    """A live cluster, as a method's command sees it."""

    @property
    def console(self) -> Console:
        """The terminal."""

    def run(self, job: Callable[[Network, Progress], T]) -> T:
        """Joins the cluster as a guest, does one job over its network, and leaves.

        Raises:
            ConfigError: the address or the key cannot be used.
            NodeError: no client answers, or the cluster runs another method.
            MethodError: the cluster cannot do the job.
        """


Command = Callable[..., None]
"""A command of a method: a function whose first parameter is a `Cluster`, and whose others are typer's arguments and
options, with a docstring for its help. The command line adds `--join`, `--listen`, `--key` and `--insecure` and makes
the cluster of them. An argument that cannot be used is a `fednet.errors.UsageError`."""


class TrainingRound(Protocol):
    """One round, as somebody's own training loop sees it.

    Attributes:
        number: which round, from 1.
        rounds: of how many.
        base: the model that the round starts from; it has been loaded into the loop's module.
    """

    number: int
    rounds: int
    base: ModelState

    def done(self, *, weight: float, **values: SupportsFloat) -> None:
        """Contributes what the module is now.

        Args:
            weight: how much it counts, > 0; usually the number of examples.
            values: what was measured, for the record of the round; a tensor of one element will do.

        Raises:
            MethodError: it was called before for this round.
        """


@runtime_checkable
class TrainingSite(Protocol):
    """A site whose training is somebody's own loop, for `fednet.join`; beside that a `Responder` and a `Participant`.

    Attributes:
        plan: the rounds; every site of the run requests the same.
        linger: longest time in seconds for which a site that has the last model stays for those that have not.
    """

    plan: RoundPlan
    linger: float

    def join(self, finished: Callable[[], None]) -> None:
        """The loop will come; `finished` is called on the device's thread once the last model has been adopted."""

    def rounds(self, module: nn.Module) -> Iterator[TrainingRound]:
        """The rounds, one after another, on the loop's own thread; in the end the module has the last model."""

    def leave(self, reason: str) -> None:
        """The loop takes part in no further round, and declines the present one."""

    def end(self, error: BaseException | None = None) -> None:
        """There are no further rounds; `error` is raised in the loop."""

    def capabilities(self, finished: Collection[str]) -> str:
        """What the site says: the sites, itself among them, that have adopted the last model as far as it knows."""

    def finished(self, capabilities: str) -> frozenset[str]:
        """The sites that have adopted the last model by what a site says; none if it cannot be read."""

    def write_results(self, folder: Path, records: Sequence[RoundRecord], digest: str) -> None:
        """Writes what the rounds that have closed leave to read; `digest` names the model that this site holds."""


@dataclass(frozen=True)
class Drawer:
    """How samples are drawn from a live cluster, or from a checkpoint.

    Attributes:
        request: what can be asked for; `fednet sample --set KEY=VALUE` sets the fields that it adds.
        draw: draws over a network: `draw(network, request, progress)`.
        from_checkpoint: draws from a file that a run has left: `from_checkpoint(path, request)`, a safetensors file
            whose metadata has an entry under the method's name; None where a method has none.
    """

    request: type[SampleRequest]
    draw: Callable[[Network, Any, Progress], SampleBatch]
    from_checkpoint: Callable[[Path, Any], SampleBatch] | None = None


@runtime_checkable
class Announcer(Protocol):
    """The part of a site that must agree with the others before it prepares, for example on the classes.

    Called on the device's thread: `announce`, then `agree` as soon as every site of the run has announced, then
    `prepare`. A site that is restarted announces and agrees again.
    """

    def announce(self) -> str:
        """What the others must know of this site: a JSON text of at most 8 KiB; quick.

        Raises:
            MethodError: its data is missing or malformed.
        """
        ...

    def agree(self, announcements: Mapping[str, str]) -> None:
        """Takes what every site has announced, this one too, by name; all sites draw the same conclusion from it.

        Raises:
            MethodError: the sites do not fit each other, or not the configuration; this one takes no part.
        """
        ...


@runtime_checkable
class LedgerKeeper(Protocol):
    """The part of a site that counts what it has spent or told of its private data, in files."""

    @property
    def ledgers(self) -> Path:
        """The folder of its ledgers; those of a site are the files `<site>.json` and `<site>.*.json`."""


def _no_check(config: Any, overrides: Mapping[str, Any]) -> None:
    """Nothing to look for before a start."""


def _no_agreement(config: Any, announcements: Mapping[str, str]) -> None:
    """Nothing that the asker must agree with."""


@dataclass(frozen=True)
class Method:
    """A federated method.

    Attributes:
        name: in cluster.yaml, in capabilities, and of its group of commands.
        summary: one line for help texts.
        config: the pydantic model of its own keys in cluster.yaml.
        site: makes the side that holds data and a model: `site(config, context, overrides)`; `overrides` are the keys
            that cluster.yaml gives for this site alone, one mapping for each of `site_sections`.
        job: the driver's work: `job(config, network, folder, seed, progress)`; leaves its results in the folder.
        announcer: makes the part of a site that agrees with the others by itself, of the same arguments as `site`, so
            that sites are asked whether they fit each other before anything starts; imports nothing that trains. None
            where there is nothing to agree on, or only the sites can tell.
        check: refuses, before anything starts, what is missing on this machine: `check(config, overrides)` raises
            DataError or ModelError.
        agree: refuses, as soon as all sites have announced (`Announcer`) and before any of them prepares,
            what the asker cannot do with them: `agree(config, announcements)` raises MethodError, at the driver.
        commands: by name; a space makes a group (`model get`).
        drawer: how samples are drawn from it; None where there is nothing to draw.
        scripts: how each site's own script takes part, of a method whose sites no launcher can start; empty otherwise.
        preload: modules that `site` and `job` import, which the launcher's fork server imports once for all nodes.
        extra: what installs the libraries that it requires beside the core, for example `fednet[diffusion]`.
        requires: the top-level modules of these libraries.
        disclosures: everything that leaves a site, beside `fednet.methods.common.disclosure.COMMON`; a question that is
            not among them is not answered.
        reads_data: whether a site with these overrides reads its `data`: `reads_data(config, overrides)`.
        site_sections: the sections of its configuration of which a node may replace keys: `data`, `model`.
    """

    name: str
    summary: str
    config: type[BaseModel]
    site: Callable[[Any, SiteContext, Mapping[str, Any]], Responder]
    job: Callable[[Any, Network, Path, int, Progress], object]
    announcer: Callable[[Any, SiteContext, Mapping[str, Any]], Announcer] | None = None
    check: Callable[[Any, Mapping[str, Any]], None] = _no_check
    agree: Callable[[Any, Mapping[str, str]], None] = _no_agreement
    commands: Mapping[str, Command] = field(default_factory=dict)
    drawer: Drawer | None = None
    scripts: str = ""
    preload: tuple[str, ...] = ()
    extra: str = ""
    requires: tuple[str, ...] = ()
    disclosures: tuple[Disclosure, ...] = ()
    reads_data: Callable[[Any, Mapping[str, Any]], bool] = lambda _config, _overrides: True
    site_sections: tuple[str, ...] = ("data",)

    @property
    def questions(self) -> frozenset[str]:
        """The questions that a site answers."""
        return question_names(self.disclosures)
