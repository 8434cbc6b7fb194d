"""Networks by name: own U-Nets and a small CNN, decoders of segmentation-models-pytorch, classifiers of timm.

Importing this package does not import torch; the first use of one of its names does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.models.base import ClassificationNetwork, Network, SegmentationNetwork
    from stainda.models.catalogue import build_model, check_model, count_parameters, list_models
    from stainda.models.cnn import Cnn
    from stainda.models.dense_maps import MAPS, add_maps
    from stainda.models.dense_transformer import DenseTransformer
    from stainda.models.depth import rate_factors
    from stainda.models.encoders import build_encoder
    from stainda.models.fine_tuning import ParameterCounts, choose_parameters, parameter_counts
    from stainda.models.linear_decoder import LinearDecoder
    from stainda.models.locality import looks_locally
    from stainda.models.low_rank import merge_low_rank, merged_state
    from stainda.models.pretrained import SmpNetwork
    from stainda.models.timm_classifier import TimmClassifier
    from stainda.models.transferred import transfer
    from stainda.models.two_stage import TwoStageNetwork
    from stainda.models.unet import UNet
    from stainda.models.weight_files import (
        find_weights,
        missing_weights,
        pinned,
        random_start,
        start_of,
        trained_start,
        weights_at_hand,
        weights_folders,
        where_to_put,
    )
    from stainda.models.weights import WeightsReport, load_weights

_HOMES = {
    "ClassificationNetwork": "base",
    "MAPS": "dense_maps",
    "Network": "base",
    "ParameterCounts": "fine_tuning",
    "SegmentationNetwork": "base",
    "add_maps": "dense_maps",
    "build_model": "catalogue",
    "check_model": "catalogue",
    "choose_parameters": "fine_tuning",
    "count_parameters": "catalogue",
    "list_models": "catalogue",
    "looks_locally": "locality",
    "Cnn": "cnn",
    "DenseTransformer": "dense_transformer",
    "LinearDecoder": "linear_decoder",
    "build_encoder": "encoders",
    "SmpNetwork": "pretrained",
    "TimmClassifier": "timm_classifier",
    "TwoStageNetwork": "two_stage",
    "UNet": "unet",
    "WeightsReport": "weights",
    "find_weights": "weight_files",
    "load_weights": "weights",
    "merge_low_rank": "low_rank",
    "merged_state": "low_rank",
    "missing_weights": "weight_files",
    "pinned": "weight_files",
    "random_start": "weight_files",
    "parameter_counts": "fine_tuning",
    "rate_factors": "depth",
    "start_of": "weight_files",
    "trained_start": "weight_files",
    "transfer": "transferred",
    "weights_at_hand": "weight_files",
    "weights_folders": "weight_files",
    "where_to_put": "weight_files",
}

__all__ = [
    "MAPS",
    "ClassificationNetwork",
    "Cnn",
    "DenseTransformer",
    "LinearDecoder",
    "Network",
    "ParameterCounts",
    "SegmentationNetwork",
    "SmpNetwork",
    "TimmClassifier",
    "TwoStageNetwork",
    "UNet",
    "WeightsReport",
    "add_maps",
    "build_encoder",
    "build_model",
    "check_model",
    "choose_parameters",
    "count_parameters",
    "find_weights",
    "list_models",
    "load_weights",
    "looks_locally",
    "merge_low_rank",
    "merged_state",
    "missing_weights",
    "pinned",
    "random_start",
    "parameter_counts",
    "rate_factors",
    "start_of",
    "trained_start",
    "transfer",
    "weights_at_hand",
    "weights_folders",
    "where_to_put",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
