"""The embedded back-end: small models that need no download, schooled on public pictures once and then kept.

Every site has the same: schooled by the same seed on the same pictures, by whichever site of the machine comes first.
Machines of different kinds may round differently, so that sites apart can end with different models, in which words
mean different things; the digest that a site shows tells, and copying one site's store to the others mends it.
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
    """The models on the site's device, frozen; schooled now if nobody has done it yet.

    Args:
        config: their size and schooling.
        site: whose they are.
        pictures: the public ones.
        progress: hears of every step.

    Raises:
        ModelError: the configuration does not fit the pictures, the schooling diverges, or a stored file is damaged.
        Stopped: the watch asks for the end.
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

    def schooled_clip() -> ModelState:
        pretrain_clip(clip, pictures, config, progress)
        return clip.model.state_dict()

    _load_state(clip.model, store.once(f"clip-{cache_key(terms)}", schooled_clip))
    painter = untrained_image_generator(config.painter, pictures.shape, clip.width, config.seed, site.device)

    def schooled_painter() -> ModelState:
        pretrain_image_generator(painter, clip, pictures, config, progress)
        return painter.state_dict()

    terms["painter"] = config.painter.model_dump(mode="json", exclude={"steps", "guidance", "batch"})
    _load_state(painter, store.once(f"painter-{cache_key(terms)}", schooled_painter))

    def known(name: str) -> list[Tensor]:
        return [clip.tokens(orientation_word(name, orientation)) for orientation in SHOWN]

    return CmtiiBackend(clip=clip, painter=painter, shape=pictures.shape, known=known)


def _load_state(model: nn.Module, state: ModelState) -> None:
    require_like(state, detached_copy(model.state_dict()), "the stored model")
    require_finite(state, "the stored model")
    model.load_state_dict(dict(state))
    model.eval().requires_grad_(requires_grad=False)
