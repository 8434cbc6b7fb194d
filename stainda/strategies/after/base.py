"""What every after part is given and gives back; the part that does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.parts import Part, register

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry
    from torch import Tensor, nn

    from stainda.arrays import Array
    from stainda.objects.filtering import Agreed
    from stainda.objects.support import ToFrame
    from stainda.strategies.norm.statistics import Statistics


@dataclass(frozen=True)
class Adapted:
    """A network ready for one slide: the batch statistics to apply (``None``: its own), and what was done (or nothing)
    in a sentence that also says how batch statistics were obtained."""

    statistics: Statistics | None
    note: str = ""


class After(Part):
    """A step after training. Statistics of batch normalisation are the business of ``norm``.

    Class attributes:
        needs_tiles: the part wants tiles of the slide's tissue before the slide is predicted.
        needs_block: the part compares the objects of all sections of a block (:meth:`on_objects`).
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    turns: ClassVar[bool] = False
    """Whether maps of turned tiles are averaged: maps of directions cannot be."""
    needs_tiles: ClassVar[bool] = False
    needs_block: ClassVar[bool] = False

    @contextmanager
    def adapted(self, network: nn.Module, tiles: Sequence[Tensor], statistics: Statistics | None) -> Iterator[Adapted]:
        """Inside the block the network is as it is applied to one slide; afterwards it is as it was, bit by bit.

        Args:
            tiles: batches of tiles of the slide, as the network sees them; empty where the part does not need them.
            statistics: of batch normalisation, as ``norm`` has them for this slide.
        """
        yield Adapted(statistics)

    def predict(self, run: Callable[[Array], Tensor], patches: Array) -> Tensor:
        """Probabilities of patches, uint8 ``(N, H, W, 3)``, by means of ``run``, which gives those of patches."""
        return run(patches)

    def fainter_thresholds(self, thresholds: Mapping[str, float]) -> dict[str, float]:
        """By class, the thresholds at which further candidates are sought, for parts with ``needs_block``."""
        raise NotImplementedError

    def on_objects(
        self,
        objects: Mapping[str, gpd.GeoDataFrame],
        fainter: Mapping[str, gpd.GeoDataFrame],
        to_frame: Mapping[str, ToFrame],
        error: float | Mapping[str, float],
        order: Mapping[str, float] | None = None,
        visible: Mapping[str, BaseGeometry] | None = None,
    ) -> Agreed:
        """What is left of the objects of a block's sections, for parts with ``needs_block``."""
        raise NotImplementedError


@register("after", "none")
class NothingAfter(After):
    """The trained network is applied as it is."""
