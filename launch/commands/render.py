"""The commands `fednet render ...`: a run as files for engines that others keep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.commands.methods import PlainGroup
from launch.commands.options import ConfigArgument, OverridesOption
from launch.errors import ConfigError, ConfigProblem
from launch.output import open_console

if TYPE_CHECKING:
    from launch.config.schema import LoadedConfig

app = typer.Typer(
    cls=PlainGroup,
    help="Writes what Docker Compose, Kubernetes or Slurm needs to start the nodes.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ToOption = Annotated[
    Path | None, typer.Option("--to", metavar="DIR", help="The folder of the files. Default: rendered/NAME.")
]


@app.command()
def compose(
    config: ConfigArgument,
    *,
    overrides: OverridesOption = None,
    to: ToOption = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=0, help="GPUs of the machine that will run it. Default: of this one.")
    ] = None,
) -> None:
    """Writes an image and a compose.yaml: all nodes on one machine, each in a container."""
    from launch.config.schema import load_launchable  # noqa: PLC0415 - help texts need not wait for it

    loaded = load_launchable(config, overrides or ())
    from launch.render.compose import COMMAND, render_compose  # noqa: PLC0415 - nor a mistake in the file for these
    from launch.render.deployment import plan_deployment  # noqa: PLC0415
    from launch.run.devices import DeviceInventory, cores, read_inventory  # noqa: PLC0415

    there = read_inventory() if gpus is None else DeviceInventory(gpus, cores())
    path = render_compose(plan_deployment(loaded, _folder(loaded, to), there, shared=True))
    _say(path, f"next: cd {path.parent} && {COMMAND}")


@app.command()
def kubernetes(
    config: ConfigArgument,
    *,
    overrides: OverridesOption = None,
    to: ToOption = None,
    image: Annotated[str | None, typer.Option("--image", help="The image's name, as the cluster pulls it.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", min=0, max=1, help="GPUs of each client's pod.")] = None,
    memory: Annotated[str, typer.Option("--memory", help="Memory that each pod asks for.")] = "2Gi",
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="CLAIM:PATH", help="A persistent volume claim with data, mounted read-only."),
    ] = None,
) -> None:
    """Writes an image, an Indexed Job with its Service, and Secrets: each node in a pod."""
    from launch.config.schema import load_launchable  # noqa: PLC0415 - help texts need not wait for it

    loaded = load_launchable(config, overrides or ())
    from launch.render.deployment import label, plan_deployment  # noqa: PLC0415 - nor a mistake in the file for these
    from launch.render.kubernetes import KubernetesOptions, render_kubernetes  # noqa: PLC0415
    from launch.run.devices import DeviceInventory  # noqa: PLC0415

    wanted = _wants_gpu(loaded) if gpus is None else gpus
    tag = image or f"{label(loaded.cluster.slug)}:latest"
    options = KubernetesOptions(tag, wanted, memory, dict(map(_claim, data or ())))
    plan = plan_deployment(loaded, _folder(loaded, to), DeviceInventory(wanted, 1), shared=False)
    path = render_kubernetes(plan, options)
    _say(path, f"next: build {path.parent / 'image'} as {tag}, push it, then kubectl apply --filename {path.parent}")


@app.command()
def slurm(config: ConfigArgument, *, overrides: OverridesOption = None, to: ToOption = None) -> None:
    """Writes a job script for sbatch and node files: all nodes in one job, in a folder that the cluster shares."""
    from launch.config.schema import load_launchable  # noqa: PLC0415 - help texts need not wait for it

    loaded = load_launchable(config, overrides or ())
    from launch.render.slurm import render_slurm  # noqa: PLC0415 - nor a mistake in the file for these

    path = render_slurm(loaded, _folder(loaded, to))
    _say(path, f"next: sbatch {path}")


def _folder(loaded: LoadedConfig, to: Path | None) -> Path:
    return to if to is not None else Path("rendered") / loaded.cluster.slug


def _wants_gpu(loaded: LoadedConfig) -> int:
    """1 if the configuration says that a node computes on a GPU."""
    wanted = [loaded.cluster.devices.device, *(entry.device for entry in loaded.cluster.entries.values())]
    return int(any(device is not None and device.startswith("cuda") for device in wanted))


def _claim(text: str) -> tuple[Path, str]:
    """(path, claim) of `CLAIM:PATH`."""
    claim, _, path = text.partition(":")
    if not claim or not path.startswith("/"):
        raise ConfigError(ConfigProblem("--data", "CLAIM:PATH with an absolute path", repr(text)))
    return Path(path), claim


def _say(path: Path, following: str) -> None:
    for line in (f"wrote {path}", following):
        open_console().print(line, markup=False, highlight=False, soft_wrap=True)
