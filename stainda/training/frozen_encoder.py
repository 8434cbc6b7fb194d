"""The vector that an encoder gives for a patch, of a network that does not learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stainda.arrays import Array
from stainda.config import ModelConfig
from stainda.errors import ConfigError
from stainda.models import build_model, start_of
from stainda.models.encoders import NAME
from stainda.strategies.detector import Standard
from stainda.strategies.features import FeatureTap, pooled


@dataclass(frozen=True, eq=False)
class FrozenEncoder:
    """An encoder and the numbers that its images are standardised by.

    Attributes:
        about: JSON values, all that its vectors depend on but the patches.
    """

    tap: FeatureTap
    standard: Standard
    device: torch.device
    about: tuple[Any, ...]

    @classmethod
    def build(
        cls, model: ModelConfig, pixels: Callable[[], Array], seed: int, task: str = "classification",
        device: str = "cpu",
    ) -> FrozenEncoder:  # fmt: skip
        """From a model: of an encoder of timm the vector that its last layer would read, pooled as the model file says
        (``pooling``; timm's own way where it says nothing); of another network the mean of its coarsest map.

        Args:
            pixels: colours (n, 3), uint8, of tissue. Images are standardised by them, unless the encoder starts from
                weights whose own numbers are known.
            seed: of the weights that no file gives.
            task: which of its networks is built where it has no form that classifies.

        Raises:
            ConfigError: the model cannot be built, or its weights are not here.
        """
        kind = "classification" if model.name == NAME and task == "segmentation" else task
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                network = build_model(model, 3, 2, kind)
            except ConfigError:
                if kind == task:
                    raise
                network = build_model(model, 3, 2, task)  # not of timm
        network.eval().to(device)
        start = start_of(model)
        if model.pretraining is not None and start:
            standard = Standard.of(model.pretraining.mean, model.pretraining.std)
        else:
            colours = pixels() / 255.0
            standard = Standard.of(colours.mean(0).tolist(), colours.std(0).clip(0.02).tolist())
        tap = FeatureTap(network, "decoder" if network.task == "classification" else "bottleneck")
        about = (model.name, model.params, start or ["random", seed], standard.mean.tolist(), standard.std.tolist())
        return cls(tap, standard, torch.device(device), about)

    def vectors(self, images: Array) -> Tensor:
        """Patches uint8 (n, h, w, 3) as float32 (n, d), on the CPU."""
        with torch.no_grad():
            seen = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
            return pooled(self.tap.until(self.standard(seen.permute(0, 3, 1, 2).float() / 255))).cpu()
