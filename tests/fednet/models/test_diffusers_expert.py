"""A folder that diffusers has saved answers with the score that diffusers' own formulas give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from fednet.diffusion.sde import VP
from fednet.errors import ModelError
from fednet.models.config import DiffusersModelConfig
from fednet.models.diffusers_expert import DiffusersFolder
from fednet.seeds import generator

Make = Callable[..., Path]
SDE = VP()
TABLE = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def opened(folder: Path, **more: Any) -> DiffusersFolder:
    return DiffusersFolder(DiffusersModelConfig.model_validate({"kind": "diffusers", "path": folder, **more}))


def points(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 1, 4, 4, generator=generator(0, "x"))


def time_of(step: int, scheduler: Any) -> torch.Tensor:
    """The run's time at which a step of a scheduler has the signal-to-noise ratio."""
    wanted = 0.5 * ((1 - scheduler.alphas_cumprod[step].double()) / scheduler.alphas_cumprod[step].double()).log()
    low, high = torch.tensor(1e-4, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if SDE.log_ratio(middle) < wanted else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("step", [3, 250, 900])
def test_at_a_step_the_score_is_that_of_the_schedulers_own_prediction(
    diffusers_folder: Make, prediction: str, step: int
) -> None:
    """DDIM's own step knows the clean picture; Tweedie's formula makes a score of it."""
    scheduler = diffusers.DDIMScheduler(**TABLE, prediction_type=prediction, clip_sample=False)
    folder = diffusers_folder(scheduler=scheduler)
    unet = diffusers.UNet2DModel.from_pretrained(folder / "unet").eval()
    x, t = points(), time_of(step, scheduler)
    alpha, std = map(float, SDE.marginal(t))
    y = x / (alpha**2 + std**2) ** 0.5
    scheduler.set_timesteps(1000)
    with torch.no_grad():
        clean = scheduler.step(unet(y, step).sample, step, y).pred_original_sample
        score = opened(folder).load(SDE, "cpu", ()).score(x, t)
    torch.testing.assert_close(score, (alpha * clean - x) / std**2, rtol=2e-3, atol=2e-3 / std**2)


def test_labels_of_the_run_become_the_networks_own(diffusers_folder: Make) -> None:
    folder = diffusers_folder(num_class_embeds=3)
    model = opened(folder, classes=["dog", "cat"])
    assert (model.classes, model.conditional, model.shape) == (("dog", "cat"), True, (1, 4, 4))
    expert = model.load(SDE, "cpu", ("cat", "dog", "elk"))
    seen: list[torch.Tensor] = []
    expert._call.network.register_forward_pre_hook(
        lambda _m, _a, options: seen.append(options["class_labels"]), with_kwargs=True
    )
    x, t, labels = points(), torch.tensor(0.4), torch.tensor([0, 1, 2])
    labelled, free = expert.score(x, t, labels), expert.score(x, t)
    assert [one.tolist() for one in seen] == [[1, 0, 2], [2, 2, 2]]  # 2 is any class, and stands for the unknown elk
    torch.testing.assert_close(expert.score(x, t, labels, 3.0), free + 3 * (labelled - free), rtol=1e-4, atol=1e-4)
    assert expert.classes == 3


def test_a_network_without_a_label_for_any_class_says_so(diffusers_folder: Make) -> None:
    model = opened(diffusers_folder(num_class_embeds=2))
    assert model.classes == ("0", "1")
    with pytest.raises(ModelError, match="knows no class 'elk' of the run, and has no label for any class"):
        model.load(SDE, "cpu", ("0", "1", "elk"))
    expert = model.load(SDE, "cpu", ("0", "1"))
    expert.score(points(2), torch.tensor(0.4), torch.tensor([0, 1]))
    for labels, guidance in ((None, 1.0), (torch.tensor([0, 1]), 2.0)):
        with pytest.raises(ModelError, match="no label for any class"):
            expert.score(points(2), torch.tensor(0.4), labels, guidance)


def test_a_learnt_variance_is_left_out(diffusers_folder: Make) -> None:
    expert = opened(diffusers_folder(out_channels=2)).load(SDE, "cpu", ())
    assert expert.score(points(), torch.tensor(0.4)).shape == (3, 1, 4, 4)


def test_the_card_says_what_the_model_is(diffusers_folder: Make) -> None:
    scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    card = opened(diffusers_folder(scheduler=scheduler)).load(SDE, "cpu", ()).card
    assert (card.kind, card.network, card.prediction) == ("diffusers", "UNet2DModel", "v_prediction")
    assert card.schedule == "DDPMScheduler, squaredcos_cap_v2, 1000 steps"
    assert card.precision == "float32"


def test_half_precision_is_in_the_network_alone(diffusers_folder: Make) -> None:
    folder = diffusers_folder()
    whole, half = opened(folder).load(SDE, "cpu", ()), opened(folder, half="bfloat16").load(SDE, "cpu", ())
    exact, score = (one.score(points(), torch.tensor(0.4)) for one in (whole, half))
    assert (half.card.precision, score.dtype) == ("bfloat16", torch.float32)
    assert 0 < (score - exact).norm() / exact.norm() < 4 * 2**-8


def test_network_and_scheduler_may_lie_side_by_side(diffusers_folder: Make) -> None:
    folder = diffusers_folder()
    whole = opened(folder).load(SDE, "cpu", ()).score(points(), torch.tensor(0.3))
    for part in ("unet", "scheduler"):
        for file in (folder / part).iterdir():
            file.rename(folder / file.name)
        (folder / part).rmdir()
    torch.testing.assert_close(opened(folder).load(SDE, "cpu", ()).score(points(), torch.tensor(0.3)), whole)


def _changed(part: str, file: str, **content: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / part / file
        path.write_text(json.dumps(json.loads(path.read_text()) | content))

    return change


@pytest.mark.parametrize(
    ("change", "more", "reason"),
    [
        (_changed("unet", "config.json", _class_name="UNet3DConditionModel"), {}, "holds a UNet3DConditionModel"),
        (_changed("unet", "config.json", time_embedding_type="learned"), {}, "continuous time"),
        (_changed("unet", "config.json", sample_size=None), {}, "set model.size"),
        (_changed("unet", "config.json", in_channels="one"), {}, "does not say its in_channels"),
        (_changed("unet", "config.json", num_class_embeds=3), {"classes": ["a"]}, "names 1 classes, .* has 3 labels"),
        (_changed("scheduler", "scheduler_config.json", beta_end=2e-4), {}, "knows noise of .* times its data's range"),
        (lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(), {}, "has no scheduler"),
        (lambda folder: (folder / "unet" / "config.json").write_text("["), {}, "cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_folder(
    diffusers_folder: Make, change: Callable[[Path], None], more: dict[str, Any], reason: str
) -> None:
    folder = diffusers_folder()
    change(folder)
    with pytest.raises(ModelError, match=reason) as refused:
        opened(folder, **more)
    assert str(refused.value).startswith("model.")
    assert str(folder) in str(refused.value)


def test_a_size_may_be_given(diffusers_folder: Make) -> None:
    folder = diffusers_folder()
    _changed("unet", "config.json", sample_size=None)(folder)
    assert opened(folder, size=8).shape == (1, 8, 8)


def test_a_device_that_is_not_there_is_refused(diffusers_folder: Make) -> None:
    with pytest.raises(ModelError, match="the device 'cuda:97' cannot be used"):
        opened(diffusers_folder()).load(SDE, "cuda:97", ())
