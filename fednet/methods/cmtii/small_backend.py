"""The embedded back-end: small models that need no download, pretrained on public pictures once and then stored.

All sites have the same models, pretrained with one seed on the same pictures by the first site of each machine.
Machines of different kinds may round differently, so that their sites can end with different models, in which words
mean different things; the digests in the sites' capabilities show it, and copying one site's store to the others mends
it.
"""

from __future__ import annotations

from torch import Tensor, nn

from fednet.api import ModelState, Progress, SiteContext
from fednet.data.datasets import ImageSet
from fednet.data.orientations import SHOWN
from fednet.errors import ModelError
from fednet.federated.state import detached_copy, digest, require_finite, require_like
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.model_cache import ModelCache, cache_key
from fednet.methods.cmtii.pretraining import (
    orientation_word,
    pretrain_clip,
    pretrain_image_generator,
    untrained_clip,
    untrained_image_generator,
)
from fednet.methods.cmtii.small_config import SmallBackendConfig


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

    return CmtiiBackend(clip=clip, image_generator=image_generator, shape=pictures.shape, known=known)


def _load_state(model: nn.Module, state: ModelState) -> None:
    require_like(state, detached_copy(model.state_dict()), "the stored model")
    require_finite(state, "the stored model")
    model.load_state_dict(dict(state))
    model.eval().requires_grad_(requires_grad=False)
