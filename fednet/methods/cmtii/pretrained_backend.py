"""The real back-end: a CLIP of open_clip and a Stable Diffusion folder, from configuration to models.

Sites that use it place the same two models on their disks beforehand (see the README); this module checks that they
belong together. A word is used by CLIP and image generator, so both must have the same token table: BK-SDM-v2 and other
descendants of Stable Diffusion 2 have that of ViT-H-14 (laion2B), and no other of the same width.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import cosine_similarity

from fednet.api import SiteContext
from fednet.errors import ModelError
from fednet.methods.cmtii.backend import CmtiiBackend, ExportedModels
from fednet.methods.cmtii.clip import OpenClip
from fednet.methods.cmtii.loading import clip_weights, load_clip
from fednet.methods.cmtii.pretrained_config import PretrainedBackendConfig
from fednet.methods.cmtii.prompts import PROMPT_TEMPLATE
from fednet.methods.cmtii.stable_diffusion import StableDiffusionGenerator
from fednet.models.diffusers_folder import load_text_to_image, require_text_to_image

MIN_TOKEN_COSINE = 0.99
"""The least cosine of two rows that are one and the same token, after rounding to half precision."""
HALF_PRECISION_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def check(config: PretrainedBackendConfig) -> None:
    """Checks that the models exist and are complete; loads nothing.

    Raises:
        ModelError: they are not; names the folder and what is missing.
    """
    clip_weights(config.clip, config.checkpoint)
    require_text_to_image(config.image_generator.expanduser(), "image_generator")


def load_pretrained_backend(config: PretrainedBackendConfig, site: SiteContext) -> CmtiiBackend:
    """Loads both models onto the site's device.

    Raises:
        ModelError: they are missing, incomplete, broken, or read with different token tables.
    """
    check(config)
    half = (
        None if config.half is None or torch.device(site.device).type == "cpu" else HALF_PRECISION_DTYPES[config.half]
    )
    clip = load_clip(config.clip, config.checkpoint, site.device, half)
    pipeline = load_text_to_image(
        config.image_generator.expanduser(), "image_generator", site.device, half or torch.float32
    )
    image_generator = StableDiffusionGenerator(
        pipeline, steps=config.steps, guidance=config.guidance, batch=config.batch, gamma=config.gamma
    )
    _require_same_table(clip, image_generator, config)
    return CmtiiBackend(clip, image_generator, image_generator.shape, exported_models(config))


def exported_models(config: PretrainedBackendConfig) -> ExportedModels:
    """How a model card loads both; they are not copied, and the card says their names without their paths."""
    clip, net = Path(config.clip).name, config.image_generator.name
    name, weights = (f"local-dir:{clip}", None) if config.checkpoint is None else (clip, config.checkpoint.name)

    def draw(word: str) -> str:
        return f"""
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("{net}", safety_checker=None)
pipeline.load_textual_inversion("words/{word}.safetensors")
pictures = pipeline(
    "{PROMPT_TEMPLATE} <{word}>", num_inference_steps={config.steps}, guidance_scale={config.guidance}
).images
"""

    return ExportedModels(
        about=f"They belong to the CLIP `{clip}`{f' ({weights})' if weights else ''} and the image generator `{net}`: "
        "put both into this folder, or their paths into the lines below.",
        load=f"""
import open_clip, PIL.Image

clip, _, preprocess = open_clip.create_model_and_transforms("{name}", {f'"{weights}"' if weights else None})
picture = PIL.Image.new("RGB", (224, 224))
""",
        draw=draw,
        files=dict,
    )


def _require_same_table(clip: OpenClip, net: StableDiffusionGenerator, config: PretrainedBackendConfig) -> None:
    """Checks that both models have the same token table."""
    if clip.width != net.width:
        raise ModelError(
            f"the words of clip {config.clip} have {clip.width} numbers and those of image generator "
            f"{config.image_generator} {net.width}: take an image generator whose text encoder is that CLIP's"
        )
    theirs, ours = net.tokens(PROMPT_TEMPLATE), clip.tokens(PROMPT_TEMPLATE)
    if theirs.shape != ours.shape or (alike := float(cosine_similarity(theirs, ours).min())) < MIN_TOKEN_COSINE:
        found = "split the prompt differently" if theirs.shape != ours.shape else f"agree by a cosine of {alike:.3f}"
        raise ModelError(
            f"clip {config.clip} and image generator {config.image_generator} have different token tables "
            f"({found}, at least {MIN_TOKEN_COSINE} for the same): use an image generator with that CLIP's text encoder"
        )
