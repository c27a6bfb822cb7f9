"""LoRA on a CLIP's image encoder, by peft: few trained parameters beside frozen weights.

open_clip's attention is torch's `MultiheadAttention`, whose projections are bare parameters: peft adapts them, query,
key, value and output, by adding the low-rank product to the weights before each pass and subtracting it afterwards.
Two things follow. Adding and subtracting rounds, so that the weights would drift from pass to pass and a saved adapter
would no longer give the same features; here the very weights are put back. And there is no input to drop out from:
peft accepts `lora_dropout` without effect, so there is no such setting here.

Source: Hu et al. 2021 (arXiv 2106.09685); rank 8 and alpha 16 are the source system's. Knows no training and no words.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import MultiheadAttention
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fednet.errors import ModelError
from fednet.federated.state import detached_copy, digest, require_finite, require_like
from fednet.methods.common.checkpoint import read_checkpoint, write_checkpoint
from fednet.seeds import seeded

ADAPTER_NAME = "default"
"""peft's name for the one adapter that there is."""
METADATA_KEY = "adapter"


class LoraAdapterConfig(BaseModel):
    """The size of an adapter.

    Attributes:
        rank: of the product that is added to every projection.
        alpha: the product is scaled by alpha / rank.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=8, ge=1, le=1024)
    alpha: float = Field(default=16.0, gt=0.0, allow_inf_nan=False)


class _AdapterDescription(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    config: LoraAdapterConfig


class LoraAdapter:
    """LoRA attached to an image encoder, in place; the encoder's own weights are frozen from then on.

    It begins as the identity: until it is trained, features are what they were, bit for bit without
    gradients (with them torch computes attention in another order).

    Args:
        encoder: a module with `nn.MultiheadAttention` in it, on its device.
        config: the adapter's size.
        seed: of its initialisation.

    Raises:
        ModelError: there is nothing in it to adapt, or it has an adapter already.
    """

    def __init__(self, encoder: nn.Module, config: LoraAdapterConfig, seed: int) -> None:
        if hasattr(encoder, "peft_config"):
            raise ModelError("the image encoder has an adapter already: detach that one first")
        targets = [name for name, part in encoder.named_modules() if isinstance(part, nn.MultiheadAttention)]
        if not targets:
            raise ModelError(
                f"{type(encoder).__name__} has no MultiheadAttention that could be adapted: "
                "take a vision transformer, for example ViT-B-32 or ViT-H-14"
            )
        self._encoder, self._config = encoder, config
        peft = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets)
        with seeded(seed, next(encoder.parameters()).device):
            self._tuner = LoraModel(encoder, peft, ADAPTER_NAME)
        self._restorers = [
            _WeightRestorer(part) for part in list(encoder.modules()) if isinstance(part, MultiheadAttention)
        ]  # a list first: walking over such a part renews its parameters

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters."""
        return (value for value in self._encoder.parameters() if value.requires_grad)

    def state(self) -> dict[str, Tensor]:
        """A copy of the adapter's numbers by their names in the encoder, float32 on the CPU."""
        return detached_copy(get_peft_model_state_dict(self._encoder, adapter_name=ADAPTER_NAME))

    def take(self, state: dict[str, Tensor], whose: str) -> None:
        """Becomes `state`.

        Raises:
            ModelError: it is of another encoder or size, or not finite; nothing is changed.
        """
        require_like(state, self.state(), whose)
        require_finite(state, whose)
        set_peft_model_state_dict(self._encoder, state, adapter_name=ADAPTER_NAME)

    def save(self, path: Path) -> None:
        """Writes it as a safetensors file with the digest of its encoder.

        Raises:
            OSError: it cannot be written; nothing is left behind.
        """
        description = _AdapterDescription(encoder=self._origin, config=self._config)
        write_checkpoint(path, self.state(), METADATA_KEY, description.model_dump_json())

    def load(self, path: Path) -> None:
        """Becomes what `save` wrote.

        Raises:
            ModelError: it is no such file, or is for another encoder, or of another size.
        """
        description, state = _read_adapter(path)
        if description.config != self._config:
            raise ModelError(f"{path} holds an adapter of {description.config!r}; this one is of {self._config!r}")
        if description.encoder != self._origin:
            raise ModelError(f"{path} holds an adapter for another model's image encoder: train one for this model")
        self.take(state, str(path))

    def detach(self) -> None:
        """Detaches the adapter: the encoder is restored bit for bit."""
        self._release()
        self._tuner.unload()

    def merge(self) -> None:
        """Merges the adapter into the encoder's own weights and detaches it."""
        self._release()
        self._tuner.merge_and_unload()

    def _release(self) -> None:
        for restorer in self._restorers:
            restorer.release()

    @cached_property
    def _origin(self) -> str:
        """The digest of the encoder without the adapter."""
        parts = self._encoder.state_dict()
        return digest({name.replace(".base_layer", ""): v for name, v in parts.items() if ".lora_" not in name})


class _WeightRestorer:
    """Puts an adapted attention's own weights back after every pass."""

    def __init__(self, layer: MultiheadAttention) -> None:
        self._kept: tuple[nn.Parameter, nn.Parameter] | None = None
        self._handles = (
            layer.register_forward_pre_hook(self._keep),
            layer.register_forward_hook(self._restore, always_call=True),
        )

    def release(self) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, layer: Any, _inputs: object) -> None:
        base = layer.get_base_layer()
        self._kept = (base.in_proj_weight, base.out_proj.get_base_layer().weight)

    def _restore(self, layer: Any, _inputs: object, _output: object) -> None:
        base = layer.get_base_layer()
        if self._kept is not None:
            base.in_proj_weight, base.out_proj.get_base_layer().weight = self._kept


def _read_adapter(path: Path) -> tuple[_AdapterDescription, dict[str, Tensor]]:
    def parse(note: Any, state: dict[str, Tensor]) -> tuple[_AdapterDescription, dict[str, Tensor]]:
        return _AdapterDescription.model_validate(note), state

    return read_checkpoint(path, METADATA_KEY, parse, "give an adapter that LoraAdapter.save wrote")
