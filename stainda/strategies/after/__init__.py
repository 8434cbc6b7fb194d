"""After parts: what happens to a trained network, or to its predictions, at a new slide."""

from stainda.strategies.after import base, cross_stain_agreement, tent, test_time_augmentation

__all__ = ["base", "cross_stain_agreement", "tent", "test_time_augmentation"]
