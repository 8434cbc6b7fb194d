"""Shapes of a target section for training: propagated objects, and ignored areas."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from stainda.annotations import join_shapes, read_shapes
from stainda.annotations.classes import IGNORE_CLASSES
from stainda.names import file_name
from stainda.registration.coverage import areas_of


def training_shapes(
    run: str | Path,
    slides: Iterable[str],
    min_confidence: float,
    reviewed: Collection[tuple[str, str, str]] = (),
) -> dict[str, gpd.GeoDataFrame]:
    """Objects and ignored areas by slide, as patches are labelled from them.

    A section that no source reached (refused at registration, say) has no entry: it is not a section without objects.
    What a reviewer decided about an object overrules the doubts about where it lies, and a sure object is never covered
    by the doubts about another one.

    Args:
        run: the run directory. min_confidence: from which an object counts as sure; less sure ones keep their class and
            confidence, and the patches ignore them.
        reviewed: (target, source, id) of the objects that a reviewer decided about.
    """
    folder = Path(run) / "annotations"
    shapes_of: dict[str, gpd.GeoDataFrame] = {}
    for slide in slides:
        name = f"{file_name(slide)}.geojson"
        if not (folder / "propagated" / name).is_file():
            continue
        objects = read_shapes(folder / "propagated" / name)
        ignored_file = folder / "ignored" / name
        ignored = read_shapes(ignored_file) if ignored_file.is_file() else objects.iloc[:0]
        if len(ignored):
            about = [(slide, row["source_slide"], _object(row["properties"])) for row in ignored.to_dict("records")]
            ignored = ignored[[key not in reviewed for key in about]]
        shapes_of[slide] = join_shapes([objects, _beyond(ignored, objects, min_confidence)])
    return shapes_of


def _object(properties: dict[str, object]) -> str:
    metadata = properties.get("metadata")
    return str(metadata.get("of", "")) if isinstance(metadata, dict) else ""


def _beyond(ignored: gpd.GeoDataFrame, objects: gpd.GeoDataFrame, min_confidence: float) -> gpd.GeoDataFrame:
    """Ignored areas without what sure objects cover."""
    sure = objects[(objects["confidence"] >= min_confidence) & ~objects["class"].isin(IGNORE_CLASSES)]
    if not len(ignored) or not len(sure):
        return ignored
    covered = shapely.union_all(shapely.make_valid(np.asarray(sure.geometry.values)))
    rest = [areas_of(shapely.make_valid(geometry)) for geometry in shapely.difference(ignored.geometry.values, covered)]
    left = ignored.copy()
    left["geometry"] = gpd.GeoSeries(rest, index=left.index, crs=None)
    return left[~shapely.is_empty(np.array(rest, dtype=object))]
