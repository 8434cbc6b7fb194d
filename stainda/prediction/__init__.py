"""Trained jobs applied to slides and images: probability maps and objects.

Importing this package does not import torch; loading a predictor does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.prediction.predictor import Predictor, ProbabilityMap, load_predictor, predict_slide

__all__ = ["Predictor", "ProbabilityMap", "load_predictor", "predict_slide"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from stainda.prediction import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
