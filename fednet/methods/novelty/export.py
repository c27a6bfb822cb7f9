"""A site's classifier and detectors as folders that libraries load without fednet.

The classifier is loaded by torch and safetensors. Of a detector diffusers loads the network; `detector.json` says how
pictures are scored with it and what its threshold is, and scoring itself takes fednet. Knows no pictures and no rounds.
"""

from __future__ import annotations

from pathlib import Path

from fednet.methods.novelty.detector import Detector
from fednet.models.export import export
from fednet.models.exported_folder import json_bytes
from fednet.models.layer_export import export_classifier
from fednet.models.lenet import LeNet

DETECTOR_CONFIG = "detector.json"
SCORING = (
    "It is the network of a detector of novel pictures: parts of a picture are masked and inpainted, and what comes "
    f"back changed is novel (`{DETECTOR_CONFIG}`: how, and the threshold, null before calibration). diffusers loads "
    "the network and draws from it; scoring is `Detector` of fednet.methods.novelty."
)


def export_site_classifier(net: LeNet, folder: Path, shape: tuple[int, int, int], classes: tuple[str, ...]) -> None:
    """Writes the classifier.

    Raises:
        OSError: it cannot be written.
    """
    export_classifier(net, folder, shape=shape, classes=classes, trained="Trained by a site with others.")


def export_detector(detector: Detector, folder: Path) -> None:
    """Writes a detector.

    Raises:
        OSError: it cannot be written.
    """
    facts = {
        "threshold": detector.threshold,
        "seed": detector.seed,
        "score": detector.config.model_dump(mode="json"),
    }
    export(detector.net, folder, classes=(), trained=SCORING, files={DETECTOR_CONFIG: json_bytes(facts)})
