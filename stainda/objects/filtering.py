"""Objects of a block's sections, kept or dropped by what the neighbouring sections show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.objects.support import SupportRules, ToFrame, mutual_comparison


@dataclass(frozen=True)
class Agreed:
    """The objects left, by section, and a row of ``jobs/<job>/agreement.csv`` per section: how many were found at the
    threshold, kept and dropped of them, how many fainter candidates there were and were added."""

    objects: dict[str, gpd.GeoDataFrame]
    rows: list[dict[str, Any]]


def agree_across_sections(
    objects: Mapping[str, gpd.GeoDataFrame],
    fainter: Mapping[str, gpd.GeoDataFrame],
    to_frame: Mapping[str, ToFrame],
    rules: SupportRules,
    keep: float = 0.5,
    *,
    order: Mapping[str, float] | None = None,
    visible: Mapping[str, BaseGeometry] | None = None,
) -> Agreed:
    """Keep what the sections of one block together make likely.

    Objects and fainter candidates are compared by :func:`stainda.objects.support.mutual_comparison`; what then has a
    score of at least ``keep`` stays. An object without a witness (no other section shows its place) stays as it was, a
    fainter candidate without one goes.

    Args:
        objects: of each section, found at the threshold, level-0 pixels.
        fainter: found at a lower threshold; those that touch an object of ``objects`` are left out.
        to_frame: for each registered section the map of points to the block's frame. A section without one is left as
            it is, and is no witness.
        rules: gates and chances, ``rules.error`` in pixels of the frame.
        keep: least score after the comparison.
        order: number of each section in the cut. visible: the part of the frame that each section shows.
    """
    placed = [slide for slide in objects if slide in to_frame]
    pools = {slide: _pooled(objects[slide], fainter.get(slide)) for slide in placed}
    compared: dict[str, gpd.GeoDataFrame] = {}
    if len(placed) > 1:
        numbers = None if order is None else {slide: order[slide] for slide in placed}
        compared = mutual_comparison(pools, to_frame, rules, order=numbers, visible=visible)
    kept: dict[str, gpd.GeoDataFrame] = {}
    rows: list[dict[str, Any]] = []
    for slide, own in objects.items():
        if slide not in compared:
            kept[slide] = own
            reason = "not registered to its block" if slide not in to_frame else "no other registered section"
            rows.append(_row(slide, len(own), len(own), 0, 0, 0, reason=reason))
            continue
        table = compared[slide]
        first = np.arange(len(table)) < len(own)
        alone = table["witnesses"].to_numpy(int) == 0
        stays = np.where(alone, first, table["score"].to_numpy(float) >= keep)
        kept[slide] = table[stays].reset_index(drop=True)
        witnesses = int(table["witnesses"].max()) if len(table) else 0
        rows.append(
            _row(slide, len(own), int((stays & first).sum()), int((~first).sum()), int((stays & ~first).sum()),
                 witnesses, reason="")
        )  # fmt: skip
    return Agreed(kept, rows)


def _pooled(objects: gpd.GeoDataFrame, fainter: gpd.GeoDataFrame | None) -> gpd.GeoDataFrame:
    """Objects, and after them the fainter ones that touch none of them."""
    if fainter is None or not len(fainter):
        return objects.reset_index(drop=True)
    if len(objects):
        touched = shapely.STRtree(objects.geometry.values).query(fainter.geometry.values, predicate="intersects")[0]
        fainter = fainter[~np.isin(np.arange(len(fainter)), touched)]
    if not len(objects):
        return fainter.reset_index(drop=True)
    return gpd.GeoDataFrame(pd.concat([objects, fainter], ignore_index=True), geometry="geometry")


def _row(
    slide: str, before: int, kept: int, fainter: int, added: int, witnesses: int, *, reason: str
) -> dict[str, Any]:
    return {
        "slide": slide, "found": before, "kept": kept, "dropped": before - kept, "fainter": fainter, "added": added,
        "witnesses": witnesses, "reason": reason,
    }  # fmt: skip
