"""Objects of the scored sections of each block compared with each other, for strategies that ask for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort import Cohort, Section
from stainda.errors import RegistrationError

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

    from stainda.prediction import Predictor
    from stainda.prediction.regions import SlideRegion
    from stainda.registration.results import BlockResult
    from stainda.registration.transforms import Transform

UNMEASURED_UM = 20.0
"""Error assumed for sections whose registration has no landmark error: that of consecutive sections (Lotz 2023)."""
UNMEASURED_PX = 40.0


@dataclass
class BlockAgreement:
    """The objects of all scored sections after comparison, by slide; and what happened, a row per section."""

    objects: dict[str, gpd.GeoDataFrame] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)


def agree_in_blocks(
    predictor: Predictor,
    scored: Cohort,
    registration: Path,
    region_of: Callable[[Predictor, Section], tuple[SlideRegion, float | None]],
) -> BlockAgreement | None:
    """Predict all scored sections and let those of each block support or doubt each other's objects.

    Nothing but images, the network's predictions and the registration are read.

    Args:
        predictor: of one checkpoint.
        scored: the sections to score. registration: the run directory's folder of it.
        region_of: gives a section's pixels and its mpp.

    Returns:
        ``None`` where the strategy's ``after`` does not compare sections.
    """
    after = predictor.detector.strategy.after
    if not after.needs_block:
        return None
    agreement = BlockAgreement()
    for block, sections in scored.blocks().items():
        objects, fainter = {}, {}
        for section in sections:
            region, mpp = region_of(predictor, section)
            result = predictor.probabilities_region(region, scored.domain(section), section.slide, mpp)
            limits = after.fainter_thresholds(predictor.thresholds)
            objects[section.slide] = predictor.objects(result)
            fainter[section.slide] = predictor.objects(result, limits)
        reason, placed = "", None
        try:
            from stainda.registration.results import load_block

            placed = load_block(registration, block)
        except RegistrationError as error:
            reason = error.message
        to_frame, errors, order = {}, {}, {}
        visible: dict[str, BaseGeometry] = {}
        for section in sections:
            order[section.slide] = float(section.section)
            if placed is not None and section.slide in placed.transforms:
                transform = placed.transforms[section.slide]
                to_frame[section.slide] = transform.to_frame
                if (tissue := shown_tissue(section, transform)) is not None:
                    visible[section.slide] = tissue
                errors[section.slide] = error_in_frame(placed, section, sections)
        agreed = after.on_objects(objects, fainter, to_frame, errors, order, visible)
        agreement.objects |= agreed.objects
        agreement.rows += [{**row, "block": block, "reason": reason or row["reason"]} for row in agreed.rows]
    return agreement


def shown_tissue(section: Section, transform: Transform) -> BaseGeometry | None:
    """What of the block's frame the tissue of a section shows; ``None`` where its slide cannot be read."""
    from stainda.registration.coverage import Ground
    from stainda.registration.sections import Refusal, open_section
    from stainda.registration.similarity import VIEW_DIM

    image = open_section(section.slide, section.path, section.mpp, 2 * VIEW_DIM)
    return None if isinstance(image, Refusal) else Ground.of(image).shown(transform)


def error_in_frame(placed: BlockResult, section: Section, sections: Sequence[Section]) -> float:
    """Typical error of a section's place in the frame, pixels of the frame."""
    if section.slide == placed.reference:
        return 0.0
    row: dict[str, Any] = next((record for record in placed.rows if record["source"] == section.slide), {})
    value = row.get("tre_nonrigid_px" if row.get("status") == "registered" else "tre_rigid_px")
    if value is not None and math.isfinite(float(value)):
        return float(value)
    frame = next((slide for slide in sections if slide.slide == placed.reference), section)
    return UNMEASURED_UM / frame.mpp if frame.mpp else UNMEASURED_PX
