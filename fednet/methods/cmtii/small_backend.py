"""The embedded back-end: small models that need no download, pretrained on public pictures once and then stored.

All sites have the same models, pretrained with one seed on the same pictures by the first site of each machine.
Machines of different kinds may round differently, so that their sites can end with different models, in which words
mean different things; the digests in the sites' capabilities show it, and copying one site's store to the others mends
it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fednet.api import ModelState, Progress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.data.orientations import SHOWN
from fednet.errors import ModelError
from fednet.federated.state import detached_copy, digest, require_finite, require_like
from fednet.methods.cmtii.backend import CmtiiBackend, ExportedModels
from fednet.methods.cmtii.clip import OpenClip
from fednet.methods.cmtii.image_generator import SmallImageGenerator
from fednet.methods.cmtii.loading import CLIP_CONFIG, CLIP_WEIGHTS
from fednet.methods.cmtii.model_cache import ModelCache, cache_key
from fednet.methods.cmtii.pretraining import (
    GREY,
    clip_architecture,
    orientation_word,
    pretrain_clip,
    pretrain_image_generator,
    untrained_clip,
    untrained_image_generator,
)
from fednet.methods.cmtii.small_config import SmallBackendConfig
from fednet.models.diffusers_folder import NETWORK_CONFIG, SCHEDULER_CONFIG
from fednet.models.export import WEIGHTS
from fednet.models.exported_folder import json_bytes, weight_bytes

LOAD = """
import open_clip, PIL.Image

clip, _, preprocess = open_clip.create_model_and_transforms("local-dir:clip")
picture = PIL.Image.new("RGB", ({side}, {side}))
"""


def load_small_backend(
    config: SmallBackendConfig, site: SiteContext, pictures: ImageSet, progress: Progress
) -> CmtiiBackend:
    """The models on the site's device, frozen; pretrained now unless the store has them.

    Args:
        config: their size and pretraining.
        site: whose they are.
        pictures: the public ones.
        progress: told of every step.

    Raises:
        ModelError: the configuration does not fit the pictures, the pretraining diverges, or a stored file is damaged.
        Stopped: `progress` asks for the end.
    """
    if pictures.shape[1] != pictures.shape[2]:
        raise ModelError(f"the embedded models need square pictures, not {pictures.shape[1:]}: set data.size")
    store = ModelCache(config.store or site.folder / "models", progress)
    terms = {
        "pictures": digest({"images": pictures.images, "labels": pictures.labels}),
        "classes": pictures.classes,
        "shown": [orientation.name for orientation in SHOWN],
        "seed": config.seed,
        "clip": config.clip.model_dump(mode="json"),
    }
    clip = untrained_clip(config.clip, pictures.shape[1], pictures.classes, config.seed, site.device)

    def pretrained_clip() -> ModelState:
        pretrain_clip(clip, pictures, config, progress)
        return clip.model.state_dict()

    _load_state(clip.model, store.once(f"clip-{cache_key(terms)}", pretrained_clip))
    image_generator = untrained_image_generator(
        config.image_generator, pictures.shape, clip.width, config.seed, site.device
    )

    def pretrained_image_generator() -> ModelState:
        pretrain_image_generator(image_generator, clip, pictures, config, progress)
        return image_generator.state_dict()

    terms["image_generator"] = config.image_generator.model_dump(mode="json", exclude={"steps", "guidance", "batch"})
    _load_state(image_generator, store.once(f"image-generator-{cache_key(terms)}", pretrained_image_generator))

    def known(name: str) -> list[Tensor]:
        return [clip.tokens(orientation_word(name, orientation)) for orientation in SHOWN]

    exported = ExportedModels(
        about="The pretrained models are in the folder, too: `clip/`, which open_clip loads, and `unet/` with "
        "`scheduler/` of diffusers, which generates from a word.",
        load=LOAD.format(side=pictures.shape[1]),
        draw=lambda word: _drawing_lines(image_generator, word),
        files=lambda: _exported_files(
            clip, clip_architecture(config.clip, pictures.shape[1], pictures.classes), image_generator
        ),
    )
    return CmtiiBackend(clip, image_generator, pictures.shape, exported, known)


def _drawing_lines(net: SmallImageGenerator, word: str) -> str:
    return f"""
from diffusers import DDIMScheduler, UNet2DConditionModel

unet, scheduler = UNet2DConditionModel.from_pretrained("unet"), DDIMScheduler.from_pretrained("scheduler")
word = load_file("words/{word}.safetensors")["<{word}>"].mean(0).expand(16, -1)
scheduler.set_timesteps({net.config.steps})
pictures = torch.randn(16, {", ".join(map(str, net.shape))})
with torch.no_grad():
    for step in scheduler.timesteps:
        led, free = (unet(pictures, step, None, class_labels=given).sample for given in (word, 0 * word))
        v = free + {net.config.guidance:g} * (led - free)
        pictures = scheduler.step(v, step, pictures, use_clipped_model_output=True).prev_sample
"""


def _exported_files(clip: OpenClip, architecture: dict[str, Any], net: SmallImageGenerator) -> dict[str, bytes]:
    described = {"model_cfg": architecture, "preprocess_cfg": GREY}
    return {
        f"clip/{CLIP_CONFIG}": json_bytes(described),
        f"clip/{CLIP_WEIGHTS[0]}": weight_bytes(clip.model.state_dict()),
        f"unet/{NETWORK_CONFIG}": net.unet.to_json_string().encode(),
        f"unet/{WEIGHTS}": weight_bytes(net.unet.state_dict()),
        f"scheduler/{SCHEDULER_CONFIG}": net.scheduler.to_json_string().encode(),
    }


def _load_state(model: nn.Module, state: ModelState) -> None:
    require_like(state, detached_copy(model.state_dict()), "the stored model")
    require_finite(state, "the stored model")
    model.load_state_dict(dict(state))
    model.eval().requires_grad_(requires_grad=False)
