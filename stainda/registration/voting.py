"""The outline of an object by the vote of the sections that show it, in place of interpolation.

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
from stainda.registration.carried import Found


def voted(
    tables: Sequence[gpd.GeoDataFrame],
    slides: Sequence[str],
    objects: list[Found],
    method: Literal["majority", "staple"],
) -> list[Found]:
    """Objects with the outlines that won the vote; one that won none keeps its own and says that it was outvoted.

    Args:
        tables: the carried shapes of each section. slides: names of the sections.
        objects: what the shapes are linked to. Points and lines have no vote: they stay as they are.
    """
    if not any((shapely.area(np.asarray(table.geometry.values)) > 0).any() for table in tables):
        return objects
    fused = fuse_annotators(dict(zip(slides, tables, strict=True)), Rules(method)).shapes
    out = list(objects)
    for cls in dict.fromkeys(one.cls for one in objects):
        chosen = [k for k, one in enumerate(objects) if one.cls == cls and one.geometry.area > 0]
        won = np.asarray(fused.geometry.values, dtype=object)[(fused["class"] == cls).to_numpy(bool)]
        pairs = match(np.array([objects[k].geometry for k in chosen], dtype=object), won)
        for place, k in enumerate(chosen):
            if place in pairs:
                how = f"{'majority' if method == 'majority' else 'STAPLE'} of {len(slides)} sections"
                out[k] = replace(objects[k], geometry=won[pairs[place]], how=how)
            else:
                out[k] = replace(objects[k], outvoted=True)
    return out
