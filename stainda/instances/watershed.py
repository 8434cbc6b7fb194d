"""No map at all: connected foreground is cut at its necks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stainda.arrays import Array
from stainda.instances.base import InstanceHead, register
from stainda.objects.necks import cut_at_necks


@register("watershed")
class WatershedHead(InstanceHead):
    """Nothing is learned about objects: connected foreground is cut at its necks, what other heads are compared with.

    The network is that of a segmentation. The cut is that of ``split_touching``, see
    :func:`stainda.objects.necks.cut_at_necks`.
    """

    reference: ClassVar[str] = (
        "Malpica et al. 1997, Applying watershed algorithms to the segmentation of clustered nuclei, Cytometry 28(4), "
        "doi 10.1002/(SICI)1097-0320(19970801)28:4<289::AID-CYTO3>3.0.CO;2-7"
    )

    @property
    def channels(self) -> int:
        return 0

    def targets(self, objects: Array) -> Array:
        return np.zeros((0, *objects.shape), np.float32)

    def separate(self, inside: Array, maps: Array) -> Array:
        return cut_at_necks(inside.astype(np.int32))
