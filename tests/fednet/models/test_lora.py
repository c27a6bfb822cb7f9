"""A LoRA file of peft or of diffusers changes the weights as its own library does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from fednet.errors import ModelError
from fednet.models.lora import add_lora
from fednet.seeds import generator

CONFIG = LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)


def unet(folder: Path) -> Any:
    return UNet2DConditionModel.from_pretrained(folder / "unet").eval().requires_grad_(False)


def predicted(network: Any) -> torch.Tensor:
    x = torch.randn(2, 4, 8, 8, generator=generator(0, "x"))
    words = torch.randn(2, 5, 16, generator=generator(0, "words"))
    with torch.no_grad():
        output: torch.Tensor = network(x, 300, encoder_hidden_states=words).sample
    return output


def adapted(network: Any, path: Path) -> torch.Tensor:
    add_lora(network, path, "model.lora")
    return predicted(network)


def test_pefts_own_file(text_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = get_peft_model(unet(text_folder), CONFIG)
    model.save_pretrained(tmp_path)
    truth = predicted(model)
    torch.testing.assert_close(
        adapted(unet(text_folder), tmp_path / "adapter_model.safetensors"), truth, rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(truth, predicted(unet(text_folder)), atol=1e-3)


def test_diffusers_own_file(text_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = unet(text_folder)
    network.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=get_peft_model_state_dict(network))
    file = tmp_path / "pytorch_lora_weights.safetensors"
    torch.testing.assert_close(adapted(unet(text_folder), file), predicted(network), rtol=1e-4, atol=1e-5)


def test_alphas_in_the_file(text_folder: Path, tmp_path: Path) -> None:
    name, network = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", unet(text_folder)
    down, up = torch.randn(3, 16), torch.randn(16, 3)
    weight = dict(network.named_parameters())[f"{name.removeprefix('unet.')}.weight"]
    before = weight.clone()
    tensors = {f"{name}.lora.down.weight": down, f"{name}.lora.up.weight": up, f"{name}.alpha": torch.tensor(6.0)}
    save_file(tensors, tmp_path / "x.safetensors")
    add_lora(network, tmp_path / "x.safetensors", "model.lora")
    torch.testing.assert_close(weight - before, 2 * up @ down, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"conv_in.weight": torch.ones(1)}, "holds no pairs of LoRA matrices of a UNet"),
        ({"conv_in.lora_A.weight": torch.ones(1, 36)}, "holds no pairs"),
        (
            {"nothing.lora_A.weight": torch.ones(1, 4), "nothing.lora_B.weight": torch.ones(4, 1)},
            "adapts nothing, which",
        ),
        (
            {"conv_in.lora_A.weight": torch.ones(1, 4), "conv_in.lora_B.weight": torch.ones(4, 1)},
            "adapts conv_in, which",
        ),
    ],
)
def test_what_adapts_another_network_is_refused(
    text_folder: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], reason: str
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=reason):
        add_lora(unet(text_folder), tmp_path / "x.safetensors", "model.lora")


def test_no_other_format_is_opened(text_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    for name, reason in (
        ("x.bin", "may run code"),
        ("no.safetensors", "is no safetensors file"),
        ("x.safetensors", "cannot be read"),
    ):
        with pytest.raises(ModelError, match=reason):
            add_lora(unet(text_folder), tmp_path / name, "model.lora")
