"""Prompts and latents are those of the folder's own pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from fednet.errors import ModelError
from fednet.models.text_codec import TextCodec, part_digest
from fednet.seeds import generator


def test_prompts_are_encoded_and_latents_decoded_as_the_pipeline_does(text_folder: Path) -> None:
    codec = TextCodec(text_folder, "cpu", "--models")
    pipeline = StableDiffusionPipeline.from_pretrained(text_folder, local_files_only=True, use_safetensors=True)
    prompt, negative = pipeline.encode_prompt(
        "a cat", "cpu", 1, do_classifier_free_guidance=True, negative_prompt="dog"
    )
    torch.testing.assert_close(codec.encode("a cat", "dog"), torch.cat([negative, prompt]))
    latents = torch.randn(5, 4, 8, 8, generator=generator(0, "x"))
    with torch.no_grad():
        truth = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample.clamp(-1, 1)
    torch.testing.assert_close(codec.decode(latents), truth, rtol=1e-4, atol=1e-5)


def test_a_prompt_that_is_too_long_is_refused(text_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"has \d+ tokens, the text encoder reads 12"):
        TextCodec(text_folder, "cpu", "--models").encode("a cat beside a dog")


def test_weights_are_named_by_their_digest(text_folder: Path, tmp_path: Path) -> None:
    codec = TextCodec(text_folder, "cpu", "--models")
    assert codec.digests == (part_digest(text_folder, "text_encoder"), part_digest(text_folder, "vae"))
    assert codec.digests[0] != codec.digests[1]
    assert len(codec.digests[0]) == 16
    assert part_digest(tmp_path, "vae") == ""
