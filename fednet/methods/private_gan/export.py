"""A site's generator and classifier as folders that torch and safetensors load without fednet.

The card says what the models have cost in privacy. The discriminator is left out: it draws nothing, and membership
attacks use it. Knows no site data and no rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fednet.methods.private_gan.messages import CLASSIFIER, GAN, PrivacyStatement
from fednet.methods.private_gan.site_models import PrivateGanModels
from fednet.models.layer_export import export_classifier, export_generator


def export_model(
    models: PrivateGanModels,
    model: str,
    folder: Path,
    *,
    number: int,
    classes: tuple[str, ...],
    privacy: PrivacyStatement,
) -> None:
    """Writes a model as it is now.

    Args:
        models: of the site.
        model: which.
        folder: of the site's models: a folder below it is written.
        number: the round that it comes from.
        classes: what the classifier's logits are of.
        privacy: what the site publishes.

    Raises:
        OSError: it cannot be written.
    """
    trained = f"Trained by the sites of a federation, {number} rounds. {cost(privacy)}"
    writers: dict[str, Callable[[], None]] = {
        GAN: lambda: export_generator(models.gan().generator.eval(), folder / "generator", trained=trained),
        CLASSIFIER: lambda: export_classifier(
            models.classifier().eval(), folder / "classifier", shape=models.shape, classes=classes, trained=trained
        ),
    }
    writers[model]()


def cost(privacy: PrivacyStatement) -> str:
    """What a site's models have cost it, in one sentence."""
    if not privacy.private or privacy.epsilon_rdp is None:
        return "NOT PRIVATE: nothing bounds what they reveal of this site's pictures."
    unit = "each picture" if privacy.level == "example" else "the site"
    return (
        f"Of this site, they have cost {unit} at most epsilon {privacy.epsilon_rdp:.3g} (RDP) at delta "
        f"{privacy.delta:g}; what they have cost other sites stands in their own cards."
    )
