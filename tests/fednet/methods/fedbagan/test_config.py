"""What can be set, and what does not fit each other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fednet.errors import UnknownClass
from fednet.federated.config import Momentum
from fednet.methods.fedbagan.config import MAX_MOMENT, FedBaganConfig, check


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"federation": {"rule": {"kind": "median"}}}, "median makes no sums"),
        ({"gan": {"rounds": 5, "first": 5}}, "leaves the generator none of 5 rounds"),
        ({"gan": {"loss": "mse"}}, "Input should be 'nll' or 'cel'"),
        ({"gan": {"optimiser": "lbfgs"}}, "Input should be 'adam' or 'sgd'"),
        ({"gan": {"game": "chess"}}, "Input should be 'relativistic' or 'softmax'"),
        ({"model": {"latent": 0}}, "greater than or equal to 1"),
        ({"gaussians": {"shrinkage": 0}}, "greater than 0"),
        ({"report": {"per_class": 10}}, "greater than or equal to 33"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        FedBaganConfig.model_validate(settings)


def test_the_decoder_alone_needs_no_rounds() -> None:
    assert FedBaganConfig.model_validate({"gan": {"rounds": 0}}).gan.rounds == 0


def test_moments_are_summed_by_everybody_and_with_room() -> None:
    federation = {"participation": 0.5, "server": {"kind": "momentum"}, "secure": {"clip": 0.5, "threshold": 4}}
    config = FedBaganConfig.model_validate({"federation": federation})
    assert isinstance(config.federation.server, Momentum)
    summing = config.summing
    assert (summing.participation, summing.server.kind, summing.buffer) == (1.0, "replace", None)
    assert summing.secure is not None
    assert (summing.secure.clip, summing.secure.threshold) == (MAX_MOMENT, 4)
    assert FedBaganConfig().summing.secure is None


def test_the_plain_gan_has_as_many_batches() -> None:
    stages = {"autoencoder": {"rounds": 10, "steps": 20}, "gan": {"rounds": 30, "steps": 8}}
    config = FedBaganConfig.model_validate(stages)
    assert config.plain_rounds * 8 == 10 * 20 + 30 * 8
    assert FedBaganConfig.model_validate({**stages, "baseline": False}).plain_rounds == 0


def test_the_rare_classes_are_those_that_are_cut() -> None:
    digits = tuple("0123456789")
    config = FedBaganConfig.model_validate({"partition": {"imbalance": {7: 0.1, 2: 0.5, 3: 1.0}}})
    assert config.rare(digits) == (2, 7)
    assert FedBaganConfig().rare(digits) == ()
    named = FedBaganConfig.model_validate({"partition": {"imbalance": {"owl": 0.1}}})
    assert named.rare(("cat", "owl")) == (1,)
    with pytest.raises(UnknownClass, match=r"partition\.imbalance names the class 'owl'; the classes are cat, dog"):
        named.rare(("cat", "dog"))


def test_digits_are_there() -> None:
    check(FedBaganConfig())
