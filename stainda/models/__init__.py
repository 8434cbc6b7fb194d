"""Networks by name: own U-Nets and a small CNN, decoders of segmentation-models-pytorch, classifiers of timm.

Importing this package does not import torch; the first use of one of its names does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.models.base import ClassificationNetwork, Network, SegmentationNetwork
    from stainda.models.catalogue import build_model, check_model, count_parameters, list_models
    from stainda.models.cnn import Cnn
    from stainda.models.pretrained import SmpNetwork
    from stainda.models.timm_classifier import TimmClassifier
    from stainda.models.unet import UNet
    from stainda.models.weights import WeightsReport, find_weights, load_weights, weights_folders

_HOMES = {
    "ClassificationNetwork": "base",
    "Network": "base",
    "SegmentationNetwork": "base",
    "build_model": "catalogue",
    "check_model": "catalogue",
    "count_parameters": "catalogue",
    "list_models": "catalogue",
    "Cnn": "cnn",
    "SmpNetwork": "pretrained",
    "TimmClassifier": "timm_classifier",
    "UNet": "unet",
    "WeightsReport": "weights",
    "find_weights": "weights",
    "load_weights": "weights",
    "weights_folders": "weights",
}

__all__ = [
    "ClassificationNetwork",
    "Cnn",
    "Network",
    "SegmentationNetwork",
    "SmpNetwork",
    "TimmClassifier",
    "UNet",
    "WeightsReport",
    "build_model",
    "check_model",
    "count_parameters",
    "find_weights",
    "list_models",
    "load_weights",
    "weights_folders",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
