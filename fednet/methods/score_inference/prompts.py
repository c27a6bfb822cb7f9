"""What a prompt is to the asker: encoded once, and what decodes the latents that are drawn for it. Knows no site.

The models that do it are the asker's own, and must be those of the sites' cards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from fednet.errors import MethodError, ModelError
from fednet.methods.score_inference.config import PromptConfig
from fednet.methods.score_inference.messages import ScoreCapabilities


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt, and what makes pictures of its latents.

    Attributes:
        embedding: float32 (2, tokens, width), the negative prompt and the prompt.
        decode: latents (n, c, h, w) -> pictures (n, 3, height, width) in [-1, 1].
    """

    embedding: Tensor
    decode: Callable[[Tensor], Tensor]


def encoded_prompt(
    config: PromptConfig | None, capabilities: Mapping[str, ScoreCapabilities], what: str
) -> EncodedPrompt | None:
    """The prompt, encoded; None where the sites take none.

    Args:
        config: the prompt and the folder with the models for it.
        capabilities: of the sites.
        what: the key or the option that names the folder, for messages.

    Raises:
        MethodError: there is a prompt and the sites take none, or the other way round.
        ModelError: the folder cannot be loaded, or holds other models than the sites'.
    """
    name, site = next(iter(capabilities.items()))
    card = site.expert
    if config is None:
        if card.prompt_width is not None:
            raise MethodError(f"the models of {name} and the others draw from prompts: give one (samples.prompt)")
        return None
    if card.prompt_width is None:
        raise MethodError(f"the models of {name} and the others take no prompt: ask without")
    from fednet.models.text_codec import TextCodec  # noqa: PLC0415 - imports transformers

    codec = TextCodec(config.models.expanduser(), "cpu", what)
    for part, ours, theirs in zip(
        ("text encoder", "autoencoder"), codec.digests, (card.text_encoder, card.autoencoder), strict=True
    ):
        if theirs and ours != theirs:
            raise ModelError(
                f"{what}: the {part} of {config.models} ({ours}) is not that of {name} ({theirs}): "
                "prompts and latents would mean something else; take the folder that the sites' models come from"
            )
    return EncodedPrompt(codec.encode(config.text, config.negative), codec.decode)
