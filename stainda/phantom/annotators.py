"""Simulated annotators of a section: what each of them draws, by a known quality, from the true outlines."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from shapely.affinity import translate
from shapely.geometry import Polygon, shape
from shapely.geometry.base import BaseGeometry

from stainda.arrays import Array
from stainda.config.preparation import AnnotatorConfig
from stainda.phantom.section import RenderedSection
from stainda.randomness import generator_for

_TRIES = 200
_DEPTH_UM = 60.0
"""How deep in the tissue the middle of an invented object lies, at least."""


def drawn_features(
    section: RenderedSection, features: list[dict[str, Any]], name: str, quality: AnnotatorConfig
) -> list[dict[str, Any]]:
    """QuPath features as an annotator draws them, level-0 pixels.

    Every outline is missed with probability ``missed``, else moved by a normal draw of ``shift_um`` along each axis and
    widened by ``grown_um``. A Poisson number of objects, ``invented`` for each true one, is drawn where none is: copies
    of true outlines elsewhere on the tissue.

    Args:
        features: the true ones. name: of the annotator, from which the draws are seeded.
    """
    mpp = section.plan.centre.mpp
    generator = generator_for(section.plan.seed, section.plan.slide, "annotator", name)
    drawn: list[dict[str, Any]] = []
    for feature in features:
        missed, moved = generator.random() < quality.missed, generator.normal(0, quality.shift_um / mpp, 2)
        if not missed:
            outline = translate(shape(feature["geometry"]), *moved).buffer(quality.grown_um / mpp)
            drawn += _feature(feature, outline, str(feature["id"]))
    truth = shapely.union_all([shape(feature["geometry"]) for feature in features]) if features else Polygon()
    for number in range(int(generator.poisson(quality.invented * len(features)))):
        copied = features[int(generator.integers(len(features)))]
        outline = _elsewhere(shape(copied["geometry"]), truth, _places(section, generator))
        drawn += [] if outline is None else _feature(copied, outline, f"{copied['id']}-{name}-{number}")
    return drawn


def _places(section: RenderedSection, generator: np.random.Generator) -> Array:
    """Points on the tissue, level-0 pixels (n, 2)."""
    pixels = generator.uniform(0, section.plan.size, (_TRIES, 2))
    frame = section.map.to_frame(pixels)
    return np.asarray(pixels[section.anatomy.tissue.depth(frame[:, 0], frame[:, 1]) > _DEPTH_UM])


def _elsewhere(outline: BaseGeometry, truth: BaseGeometry, places: Array) -> BaseGeometry | None:
    """The outline about the first of these places where it touches nothing true; ``None``: there is none."""
    middle = outline.centroid
    for x, y in places:
        moved = translate(outline, x - middle.x, y - middle.y)
        if not moved.intersects(truth):
            return moved
    return None


def _feature(like: dict[str, Any], outline: BaseGeometry, identity: str) -> list[dict[str, Any]]:
    """One feature, or none where nothing is left of the outline."""
    pieces = [piece for piece in shapely.get_parts(outline) if piece.area > 0]
    if not pieces:
        return []
    ring = np.round(np.asarray(max(pieces, key=lambda piece: piece.area).exterior.coords), 2).tolist()
    properties = {key: value for key, value in like["properties"].items() if key != "measurements"}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return [{"type": "Feature", "id": identity, "properties": properties, "geometry": geometry}]
