"""The method `fedbagan`: federated class-balancing GAN.

Registered as an entry point of the group `fednet.methods`. Imports no torch: the site and the job are imported by
the process that runs them.
"""

from __future__ import annotations

from fednet.methods.contract import Drawer, Method
from fednet.methods.fedbagan.config import FedBaganConfig, check
from fednet.methods.fedbagan.disclosures import DISCLOSURES
from fednet.methods.sample_request import SampleRequest
from fednet.plugins import lazily

METHOD = Method(
    name="fedbagan",
    summary="federated class-balancing GAN",
    config=FedBaganConfig,
    site=lazily("fednet.methods.fedbagan.site:FedBaganSite.from_overrides"),
    job=lazily("fednet.methods.fedbagan.job:run_job"),
    announcer=lazily("fednet.methods.fedbagan.announcer:FedBaganAnnouncer.from_overrides"),
    check=check,
    agree=lazily("fednet.methods.common.measuring_data:require_measurable"),
    drawer=Drawer(
        SampleRequest,
        lazily("fednet.methods.fedbagan.sampling:sample"),
        lazily("fednet.methods.fedbagan.sampling:sample_from"),
    ),
    preload=("fednet.methods.fedbagan.job", "fednet.methods.fedbagan.site", "torchvision.utils", "sklearn.datasets"),
    extra="fednet[images]",
    requires=("matplotlib", "sklearn", "tensorboard", "torchvision"),
    disclosures=DISCLOSURES,
)
