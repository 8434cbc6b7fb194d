"""Objects of consecutive sections support or doubt each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.after.base import After
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

    from stainda.objects.filtering import Agreed
    from stainda.objects.support import ToFrame


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

    def fainter_thresholds(self, thresholds: Mapping[str, float]) -> dict[str, float]:
        return {cls: self.faint * value for cls, value in thresholds.items()}

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
        from stainda.objects.support import SupportRules

        rules = SupportRules(error=error, reach=self.reach, found=self.found, by_chance=self.by_chance)
        return agree_across_sections(objects, fainter, to_frame, rules, self.keep, order=order, visible=visible)
