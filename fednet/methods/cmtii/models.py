"""The models of a run: which back-end is configured, made ready at a place. Knows no call and no question."""

from __future__ import annotations

from fednet.conversations import Site, Watch
from fednet.methods.cmtii.backend import Backend
from fednet.methods.cmtii.config import Config
from fednet.methods.cmtii.holdings import World
from fednet.methods.cmtii.real_config import RealConfig


def models_of(config: Config, site: Site, world: World, watch: Watch) -> Backend:
    """The models on a site's device, frozen.

    Raises:
        MethodError: they cannot be loaded, or schooled.
        Stopped: the watch asks for the end.
    """
    if isinstance(config.backend, RealConfig):
        from fednet.methods.cmtii import real  # noqa: PLC0415 - transformers takes seconds to import

        watch.report("loading models", 0, 1)
        return real.load(config.backend, site)
    from fednet.methods.cmtii import embedded  # noqa: PLC0415 - as above

    return embedded.load(config.backend, site, world.common(), watch)
