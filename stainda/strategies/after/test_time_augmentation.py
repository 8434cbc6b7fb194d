"""Test-time augmentation: predictions averaged over the orientations of a square tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from stainda.arrays import Array
from stainda.strategies.after.base import After
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("after", "test_time_augmentation")
class TestTimeAugmentation(After):
    """Predictions averaged over mirror images and quarter turns of every tile, each turned back."""

    __test__ = False  # no test, whatever its name begins with
    turns: ClassVar[bool] = True
    reference: ClassVar[str] = "common practice; Shanmugam et al. 2021, Better Aggregation in TTA, arXiv 2011.11156"

    views: Literal["flips", "all"] = Field("all", description="flips: 4 (quarter turns left out); all: 8")

    def predict(self, run: Callable[[Array], Tensor], patches: Array) -> Tensor:
        return averaged(run, patches, quarter_turns=self.views == "all")


def averaged(run: Callable[[Array], Tensor], patches: Array, quarter_turns: bool = True) -> Tensor:
    """Mean of the probabilities of patches mirrored and turned, each map turned back.

    Args:
        run: probabilities ``[N, K, h, w]`` (or ``[N, K]``) of uint8 patches ``(N, H, W, 3)``.
        quarter_turns: with them 8 orientations, without 4 (mirror images and the half turn). Patches that are not
            square are never turned by a quarter.
    """
    turned = quarter_turns and patches.shape[1] == patches.shape[2]
    total: Tensor | None = None
    turns = (0, 1, 2, 3) if turned else (0, 2)
    for mirrored in (False, True):
        for turn in turns:
            shown = np.rot90(patches[:, :, ::-1] if mirrored else patches, turn, axes=(1, 2))
            result = run(np.ascontiguousarray(shown))
            if result.dim() == 4:
                result = result.rot90(-turn, (2, 3))
                result = result.flip(3) if mirrored else result
            total = result.clone() if total is None else total + result
    assert total is not None
    return total / (2 * len(turns))
