"""The best generator as a folder that torch and safetensors load without fednet, with the classes' Gaussians beside it.

Knows no sites and no data.
"""

from __future__ import annotations

from pathlib import Path

from fednet.methods.fedbagan.checkpoint import GeneratorCheckpoint
from fednet.models.exported_folder import weight_bytes
from fednet.models.layer_export import export_generator

FOLDER = Path("models") / "generator"
"""Below the run's folder."""
GAUSSIANS = "gaussians.safetensors"


def export_checkpoint(checkpoint: GeneratorCheckpoint, folder: Path) -> None:
    """Writes the folder; its lines draw pictures of all classes of which a site had any.

    Raises:
        OSError: it cannot be written.
    """
    about, gaussians = checkpoint.about, checkpoint.gaussians
    named = ", ".join(f"{label} {name}" for label, name in enumerate(about.classes))
    tensors = {"mean": gaussians.mean, "factor": gaussians.factor, "known": gaussians.known}
    export_generator(
        checkpoint.generator,
        folder,
        trained=f"Trained by the sites of a federation, {about.round} rounds of adversarial training. The latent "
        f"vectors of a class are a Gaussian (`{GAUSSIANS}`: `mean`, `factor` L with covariance L L^T, and whether any "
        f"site had the class, `known`). Classes: {named}.",
        latents=f"""
from safetensors.torch import load_file

gaussians = load_file("{GAUSSIANS}")
known = gaussians["known"].nonzero().flatten()
labels = known[torch.arange(16) % len(known)]
noise = torch.randn(16, {about.model.latent})
latents = gaussians["mean"][labels] + torch.einsum("nij,nj->ni", gaussians["factor"][labels], noise)
""",
        files={GAUSSIANS: weight_bytes(tensors)},
    )
