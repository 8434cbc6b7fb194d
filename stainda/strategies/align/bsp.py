"""BSP: DANN with batch spectral penalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step
from stainda.strategies.align.dann import Dann
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "bsp")
class Bsp(Dann):
    """DANN with batch spectral penalisation: no direction of the features may dominate for being transferable.

    To DANN's loss is added ``η Σ_{i≤k} (σ_i(F_s)² + σ_i(F_t)²) / M``, with σ the singular values in falling order of
    the features of each batch as a matrix of M rows; pytorch-adapt's ``BatchSpectralLoss``, divided by M so that η does
    not depend on the number of rows (the authors' 1e-4 for 36 rows is 3.6e-3 here).
    """

    reference: ClassVar[str] = (
        "Chen et al. 2019, Transferability vs. Discriminability: Batch Spectral Penalization, ICML, PMLR 97:1081"
    )
    unscaled: ClassVar[tuple[str, ...]] = ("spectrum",)

    penalty: float = Field(0.004, ge=0, description="η, weight of the largest squared singular values")
    directions: int = Field(1, ge=1, description="k, how many singular values are penalised")

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.pytorch_adapt import layers

        loss = layers.BatchSpectralLoss(k=self.directions)
        spectra = [loss(rows.features) / len(rows.features) for rows in self.rows(step)]
        return {**super().losses(step), "spectrum": self.penalty * (spectra[0] + spectra[1])}
