"""Three sites with three different models of diffusers against three that fednet trains: the union of their digits.

    python tests/experiments/models_table.py [--seeds 0 1 2] [--out runs/models] [--write]

Each site has the digits that `partition: disjoint` gives it. A plain training loop of diffusers makes one model a site:
two networks, two schedules, one of them predicting v; with as many batches, the same optimiser and the same average of
weights as fednet's own. Both runs are a `fednet launch` (processes, sockets and all). `--write` puts the table into
docs/how-to/your-models.md.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from statistics import mean
from typing import Any

import diffusers
import torch
from tables import Launch, launched, write

from fednet.api import SiteContext
from fednet.data.datasets import ImageSet
from fednet.data.site_data import run_share
from fednet.diffusion.config import ScoreTrainConfig
from fednet.methods.score_inference.config import ScoreInferenceConfig
from fednet.seeds import derive, generator

PAGE = Path("docs/how-to/your-models.md")
SITES = ("a", "b", "c")
SAMPLES = ("arms={mixture: {rule: mixture}}", "evaluate.agreement=0")
SMALL = {"block_out_channels": (32, 32), "layers_per_block": 1, "norm_num_groups": 8}
WIDE = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
LINEAR = diffusers.DDPMScheduler()
COSINE = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
MODELS = {"a": (SMALL, LINEAR), "b": (WIDE, COSINE), "c": (WIDE, LINEAR)}
"""Network and schedule by site; b predicts v, the others the noise."""


def network(shape: dict[str, Any], seed: int) -> Any:
    """An untrained UNet2DModel for digits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return diffusers.UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            **shape,
        )


def trained(net: Any, scheduler: Any, images: torch.Tensor, seed: int) -> Any:
    """A network after as many batches as fednet's default, Adam at 2e-3 with a cosine to zero, and averaged weights."""
    config, random = ScoreTrainConfig(), generator(seed, "batches")
    steps, size = config.batches(len(images)), min(config.batch, len(images))
    optimiser, average = torch.optim.Adam(net.parameters(), lr=config.lr), copy.deepcopy(net).requires_grad_(False)
    rise = max(1, steps // 20)
    half_turns = [
        min(1.0, (step + 1) / rise, 0.5 + 0.5 * float(torch.cos(torch.tensor(step / steps * torch.pi))))
        for step in range(steps)
    ]
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: half_turns[min(step, steps - 1)])
    for step in range(steps):
        batch = images[torch.randint(len(images), (size,), generator=random)]
        noise = torch.randn(batch.shape, generator=random)
        times = torch.randint(scheduler.config.num_train_timesteps, (size,), generator=random)
        target = noise
        if scheduler.config.prediction_type == "v_prediction":
            target = scheduler.get_velocity(batch, noise, times)
        loss = (net(scheduler.add_noise(batch, noise, times), times).sample - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
        optimiser.step()
        rates.step()
        with torch.no_grad():
            for old, new in zip(average.parameters(), net.parameters(), strict=True):
                old.lerp_(new, 1 - min(config.ema, (1 + step) / (10 + step)))
    return average.eval()


def share(seed: int, index: int) -> ImageSet:
    """The digits of a site, those that fednet's own site of this place trains on."""
    config = ScoreInferenceConfig()
    site = SiteContext(SITES[index], index, len(SITES), seed, "cpu", Path())
    return run_share(config.data, config.partition, site, config.held_out_of_run)


def models(seed: int, out: Path) -> Launch:
    """The launch with three folders of diffusers, which are trained now where they do not exist."""
    nodes = []
    for index, name in enumerate(SITES):
        folder, (shape, scheduler), images = out / f"models-{seed}" / name, MODELS[name], share(seed, index)
        if not (folder / "scheduler").exists():
            net = trained(
                network(shape, derive(seed, "init", name)), scheduler, images.images, derive(seed, "train", name)
            )
            net.save_pretrained(folder / "unet")
            scheduler.save_pretrained(folder / "scheduler")
        nodes.append(f"{name}: {{model: {{kind: diffusers, path: {folder.absolute()}, pictures: {len(images)}}}}}")
    overrides = (f"nodes={{{', '.join(nodes)}}}", "measure={data: {name: digits}}", "report.real=false", *SAMPLES)
    return Launch("diffusers", "score-inference", overrides)


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/models"))
    parser.add_argument("--write", action="store_true", help=f"also write it into {PAGE}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[Any]] = {"fednet": [], "diffusers": []}
    for seed in arguments.seeds:
        own = Launch("fednet", "score-inference", ("nodes={a: {}, b: {}, c: {}}", *SAMPLES))
        for launch in (own, models(seed, arguments.out)):
            metrics = launched(launch, seed, arguments.out)
            found[launch.name].append(metrics["arms"]["mixture"]["evaluation"])
    text = table(found, arguments.seeds)
    print(text)  # noqa: T201 - this is what it is for
    if arguments.write:
        write(PAGE, text)


def table(found: dict[str, list[Any]], seeds: list[int]) -> str:
    """The table as Markdown."""
    lines = [
        f"Seeds {', '.join(map(str, seeds))}; mean (each seed); 300 samples, `mixture`, 200 Euler-Maruyama steps.",
        "",
        "| three sites with disjoint digits | Frechet distance / floor | Inception Score |",
        "|---|---|---|",
    ]
    ratios = {name: [each["frechet"] / each["floor"] for each in runs] for name, runs in found.items()}
    for name, said in (
        ("fednet", "trained by fednet"),
        ("diffusers", "folders of diffusers: two networks, two schedules, one v"),
    ):
        scores = [each["inception_score"] for each in found[name]]
        columns = [
            f"{mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})" for values in (ratios[name], scores)
        ]
        lines.append(f"| {said} | {' | '.join(columns)} |")
    lines.append(
        f"| ratio of the two, must be at most 1.2 | {mean(ratios['diffusers']) / mean(ratios['fednet']):.2f} | |"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
