"""Outline of an object by a vote of the sections that show it, instead of interpolation.

Every section counts as an annotator who looked at the whole target (``stainda.annotations.fusion``); with two sections
the majority is what both cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely

from stainda.annotations.fusion import Rules, fuse_annotators
from stainda.objects.linking import match
from stainda.registration.propagated_shapes import PropagatedObject


def voted(
    tables: Sequence[gpd.GeoDataFrame],
    slides: Sequence[str],
    objects: list[PropagatedObject],
    method: Literal["majority", "staple"],
) -> list[PropagatedObject]:
    """Objects with the outlines that won the vote; one that won none keeps its own and says that it was outvoted.

    Args:
        tables: the propagated shapes of each section. slides: names of the sections.
        objects: what the shapes are linked to. Points and lines have no vote: they stay as they are.
    """
    if not any((shapely.area(np.asarray(table.geometry.values)) > 0).any() for table in tables):
        return objects
    fused = fuse_annotators(dict(zip(slides, tables, strict=True)), Rules(method)).shapes
    out = list(objects)
    for cls in dict.fromkeys(target_object.cls for target_object in objects):
        chosen = [
            k for k, target_object in enumerate(objects) if target_object.cls == cls and target_object.geometry.area > 0
        ]
        won = np.asarray(fused.geometry.values, dtype=object)[(fused["class"] == cls).to_numpy(bool)]
        pairs = match(np.array([objects[k].geometry for k in chosen], dtype=object), won)
        for place, k in enumerate(chosen):
            if place in pairs:
                how = f"{'majority' if method == 'majority' else 'STAPLE'} of {len(slides)} sections"
                out[k] = replace(objects[k], geometry=won[pairs[place]], how=how)
            else:
                out[k] = replace(objects[k], outvoted=True)
    return out
