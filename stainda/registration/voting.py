"""Outline of an object by a vote of the sections that show it, instead of interpolation.

Every section counts as an annotator (``stainda.annotations.fusion``) who looked at what its tissue shows of the target,
and is silent about what others alone show; of two sections that show a place the majority is what both cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations import join_shapes, make_shapes
from stainda.annotations.classes import IGNORE
from stainda.annotations.fusion import Rules, fuse_annotators
from stainda.objects.linking import match
from stainda.registration.coverage import areas_of
from stainda.registration.propagated_shapes import PropagatedObject


def voted(
    tables: Sequence[gpd.GeoDataFrame],
    slides: Sequence[str],
    seen: Sequence[BaseGeometry],
    objects: list[PropagatedObject],
    method: Literal["majority", "staple"],
) -> list[PropagatedObject]:
    """Objects with the outlines that won the vote; one that won none keeps its own and says that it was outvoted.

    Args:
        tables: the propagated shapes of each section. slides: names of the sections. seen: what of the target each
            shows.
        objects: what the shapes are linked to. Points and lines have no vote: they stay as they are.

    Returns:
        The objects with the outlines of the vote; ``dissent`` and ``clipped`` are still those of the outlines before.
    """
    if not any((shapely.area(np.asarray(table.geometry.values)) > 0).any() for table in tables):
        return objects
    drawn = {
        slide: join_shapes([table, make_shapes([silence], IGNORE)]) if silence.area > 0 else table
        for slide, table, silence in zip(slides, tables, _silences(tables, seen), strict=True)
    }
    fused = fuse_annotators(drawn, Rules(method)).shapes
    out = list(objects)
    for cls in dict.fromkeys(target_object.cls for target_object in objects):
        chosen = [
            k for k, target_object in enumerate(objects) if target_object.cls == cls and target_object.geometry.area > 0
        ]
        won = np.asarray(fused.geometry.values, dtype=object)[(fused["class"] == cls).to_numpy(bool)]
        pairs = match(np.array([objects[k].geometry for k in chosen], dtype=object), won)
        for place, k in enumerate(chosen):
            if place in pairs:
                middle = won[pairs[place]].centroid
                showing = {k for k, area in enumerate(seen) if area.contains(middle)}
                voters = len(showing | {source for source, _ in objects[k].members})
                how = f"{'majority' if method == 'majority' else 'STAPLE'} of {voters} section{'s' * (voters > 1)}"
                out[k] = replace(objects[k], geometry=won[pairs[place]], how=how)
            else:
                out[k] = replace(objects[k], outvoted=True)
    return out


def _silences(tables: Sequence[gpd.GeoDataFrame], seen: Sequence[BaseGeometry]) -> list[BaseGeometry]:
    """Of each section, what others show around the shapes and it does not."""
    around = shapely.box(*shapely.total_bounds(np.concatenate([np.asarray(table.geometry.values) for table in tables])))
    shown = shapely.intersection(shapely.union_all(list(seen)), around)
    return [areas_of(shapely.difference(shown, area)) for area in seen]
