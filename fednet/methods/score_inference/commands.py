"""The command `fednet score-inference sample`: a picture from a prompt, drawn with the sites' models.

The prompt is encoded and the latents are decoded here; the sites answer scores. Imports no torch until the command
runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from fednet.errors import UsageError
from fednet.files import require_writable
from fednet.methods.score_inference.config import PromptConfig
from fednet.methods.score_inference.sample_request import ScoreSampleRequest
from fednet.rules.contract import RuleSettings

if TYPE_CHECKING:
    from fednet.api import Network, Progress
    from fednet.methods.contract import Cluster
    from fednet.reporting.samples import SampleBatch


def sample(
    cluster: Cluster,
    *,
    prompt: Annotated[str, typer.Option(help="What to draw.")],
    models: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="The Stable Diffusion folder whose text encoder and VAE the sites share."),
    ],
    negative: Annotated[str, typer.Option(help="What not to draw.")] = "",
    count: Annotated[int, typer.Option("-n", min=1, help="How many pictures.")] = 1,
    guidance: Annotated[float, typer.Option(min=0.0, help="Classifier-free guidance; 1 for none.")] = 7.5,
    rule: Annotated[str, typer.Option(help="How the sites' scores are combined.")] = "mixture",
    sampler: Annotated[str, typer.Option(help="ode, euler-maruyama, predictor-corrector, dpm-solver++ or heun.")] = (
        "dpm-solver++"
    ),
    seed: Annotated[int, typer.Option(help="The seed of the noise.")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="The picture to write.")] = Path("grid.png"),
) -> None:
    """Draws pictures of a prompt, and writes them as one image."""
    written = require_writable(output, "--output", ".png")
    given = {"count": count, "seed": seed, "guidance": guidance, "sampler": sampler, "rule": RuleSettings(kind=rule)}
    try:
        request = ScoreSampleRequest.model_validate(given)
        wanted = PromptConfig(text=prompt, negative=negative, models=models)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        raise UsageError(f"--{first['loc'][0]}", hint=first["msg"]) from error
    from fednet.images import by_label, save_png  # noqa: PLC0415 - imports torch, as the next
    from fednet.methods.score_inference.sampling import sample as draw  # noqa: PLC0415

    def job(network: Network, progress: Progress) -> SampleBatch:
        return draw(network, request, progress, prompt=wanted)

    samples = cluster.run(job)
    save_png(written, by_label(samples.images, None))
    for note in samples.notes:
        cluster.console.print(note, style="dim", highlight=False)
    cluster.console.print(f"wrote {written}", markup=False, highlight=False, soft_wrap=True)


COMMANDS = {"sample": sample}
