"""Trained jobs applied to slides and images: probability maps and objects.

Importing this package does not import torch; loading a predictor does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.prediction.coarse import CoarseDetector
    from stainda.prediction.outputs import SlidePrediction, Wanted, predict_slide
    from stainda.prediction.predictor import Predictor, ProbabilityMap, load_predictor

_WHERE = {
    "CoarseDetector": "coarse",
    "Predictor": "predictor", "ProbabilityMap": "predictor", "load_predictor": "predictor",
    "SlidePrediction": "outputs", "Wanted": "outputs", "predict_slide": "outputs",
}  # fmt: skip

__all__ = [
    "CoarseDetector",
    "Predictor",
    "ProbabilityMap",
    "SlidePrediction",
    "Wanted",
    "load_predictor",
    "predict_slide",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(f"stainda.prediction.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
