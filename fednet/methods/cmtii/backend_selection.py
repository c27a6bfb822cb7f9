"""Loads the back-end that a run configures onto a site's device."""

from __future__ import annotations

from fednet.api import Progress, SiteContext
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.config import CmtiiConfig
from fednet.methods.cmtii.pretrained_config import PretrainedBackendConfig
from fednet.methods.cmtii.site_data import CmtiiDataSplit


def load_backend(config: CmtiiConfig, site: SiteContext, split: CmtiiDataSplit, progress: Progress) -> CmtiiBackend:
    """The models on a site's device, frozen.

    Raises:
        MethodError: they cannot be loaded or pretrained.
        Stopped: `progress` asks for the end.
    """
    if isinstance(config.backend, PretrainedBackendConfig):
        from fednet.methods.cmtii import pretrained_backend  # noqa: PLC0415 - transformers takes seconds to import

        progress.report("loading models", 0, 1)
        return pretrained_backend.load_pretrained_backend(config.backend, site)
    from fednet.methods.cmtii import small_backend  # noqa: PLC0415 - as above

    return small_backend.load_small_backend(config.backend, site, split.public_images(), progress)
