"""What happens to a trained network, or to its predictions, at a new slide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.parts import Field, Part, register

if TYPE_CHECKING:
    import geopandas as gpd
    import numpy as np
    from shapely.geometry.base import BaseGeometry
    from torch import Tensor, nn

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

    def predict(self, run: Callable[[np.ndarray], Tensor], patches: np.ndarray) -> Tensor:
        """Probabilities of patches, uint8 ``(N, H, W, 3)``, by means of ``run``, which gives those of patches."""
        return run(patches)

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


@register("after", "tent")
class Tent(After):
    """A few steps of lower entropy on each slide's own tiles, over scale and shift of the normalisations alone.

    Begun anew for every slide, and undone after it. Batch statistics are those of the tiles, during the steps and at
    prediction. Sure is not right: where the network is wrong on most of a slide, or objects are few, it can make
    matters worse, so it takes few steps.
    """

    reference: ClassVar[str] = "Wang et al. 2021, Tent: Fully Test-Time Adaptation, arXiv 2006.10726"
    needs_tiles: ClassVar[bool] = True

    steps: int = Field(10, ge=1, le=100, description="optimiser steps per slide, a batch of at most 16 tiles each")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="of Adam")

    @contextmanager
    def adapted(self, network: nn.Module, tiles: Sequence[Tensor], statistics: Statistics | None) -> Iterator[Adapted]:
        from stainda.strategies.after.tent import surer

        with surer(network, tiles, statistics, self.steps, self.learning_rate) as found:
            yield found


@register("after", "test_time_augmentation")
class TestTimeAugmentation(After):
    """Predictions averaged over mirror images and quarter turns of every tile, each turned back."""

    __test__ = False  # no test, whatever its name begins with
    reference: ClassVar[str] = "common practice; Shanmugam et al. 2021, Better Aggregation in TTA, arXiv 2011.11156"

    views: Literal["flips", "all"] = Field("all", description="flips: 4 (quarter turns left out); all: 8")

    def predict(self, run: Callable[[np.ndarray], Tensor], patches: np.ndarray) -> Tensor:
        from stainda.strategies.after.test_time_augmentation import averaged

        return averaged(run, patches, quarter_turns=self.views == "all")


@register("after", "cross_stain_agreement")
class CrossStainAgreement(After):
    """Objects of consecutive sections support or doubt each other: doubted ones go, faint ones that are supported stay.

    Scores become posterior log-odds by the rules of ``stainda.objects.support``; kept is what then has at least
    ``keep``. Candidates are also looked for at ``faint`` times the threshold, where nothing was found at the threshold.
    Only registered sections of a block can witness; one without registered neighbours is left as it is, and listed.
    """

    reference: ClassVar[str] = (
        "after Temerinac-Ott et al. 2017, mutual comparison of multiple staining modalities; the rules are stainda's"
    )
    needs_block: ClassVar[bool] = True

    keep: float = Field(0.5, gt=0, lt=1, description="least score after the comparison")
    faint: float = Field(0.6, gt=0, le=1, description="share of the threshold at which fainter candidates are sought")
    reach: int = Field(2, ge=1, description="sections apart at which two still witness for each other")
    found: float = Field(0.8, gt=0, lt=1, description="chance that a true object is found in a neighbouring section")
    by_chance: float = Field(0.1, gt=0, lt=1, description="chance that a false object meets something there")

    def on_objects(
        self,
        objects: Mapping[str, gpd.GeoDataFrame],
        fainter: Mapping[str, gpd.GeoDataFrame],
        to_frame: Mapping[str, ToFrame],
        error: float | Mapping[str, float],
        order: Mapping[str, float] | None = None,
        visible: Mapping[str, BaseGeometry] | None = None,
    ) -> Agreed:
        from stainda.objects.filtering import agree_across_sections
        from stainda.objects.support import Comparison

        rules = Comparison(error=error, reach=self.reach, found=self.found, by_chance=self.by_chance)
        return agree_across_sections(objects, fainter, to_frame, rules, self.keep, order=order, visible=visible)
