"""Coverage of a target section: its tissue, the part that sources show, and the part that stays unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from stainda.annotations import outlines
from stainda.arrays import Array
from stainda.objects.moving import moved_geometries
from stainda.registration.affine import apply_affine
from stainda.registration.content import layers_of
from stainda.registration.maps import PointMap
from stainda.registration.sections import SectionImage
from stainda.registration.shapes_in_pieces import cut_at_pieces
from stainda.registration.transforms import Between

MARGIN = 0.01  # of the tissue's longer side: two sections' borders differ by that much without anything being missing
DOUBT = 0.25  # of an object's diameter: where a dropped object may lie beyond its propagated outline


@dataclass(frozen=True, eq=False)
class Ground:
    """A section as propagation needs it.

    Attributes:
        image: the working image.
        tissue: the area within the outer border of its tissue, level-0 pixels. Lumens and Bowman's spaces are glass
            inside tissue, and belong to it.
    """

    image: SectionImage
    tissue: BaseGeometry

    @classmethod
    def of(cls, image: SectionImage) -> Ground:
        filled = ndimage.binary_fill_holes(image.tissue)
        back = np.linalg.inv(image.matrix)
        shapes = outlines(filled.astype(np.uint8), 0, 0, 1.0)
        # outlines count from the corner of the first pixel, the matrix from its centre
        parts = shapely.transform(np.asarray(shapes.geometry), lambda xy: apply_affine(back, xy - 0.5))
        area = shapely.union_all(shapely.make_valid(parts)) if len(parts) else shapely.Polygon()
        area = shapely.intersection(area, shapely.box(0, 0, *image.size))
        shapely.prepare(area)
        return cls(image, area)

    @cached_property
    def layers(self) -> Array:
        """See ``content.layers_of``."""
        return layers_of(self.image)

    @property
    def slide(self) -> BaseGeometry:
        """The rectangle of the slide, level-0 pixels."""
        return shapely.box(0, 0, *self.image.size)

    def seen_from(self, source: Ground, between: Between) -> BaseGeometry:
        """What of the target the tissue of a source shows, level-0 pixels of the target."""
        return source.shown(between)

    def shown(self, onto: PointMap) -> BaseGeometry:
        """The tissue as a map puts it, level-0 pixels of its frame."""
        coarse = shapely.simplify(self.tissue, self.image.downsample)
        # a piece of tissue without a partner has no place
        tissue = shapely.get_parts(coarse)
        parts, _ = moved_geometries(tissue, onto.to_frame)
        cut = cut_at_pieces(tissue, onto.steps())
        parts[cut.index] = cut.outlines
        return areas_of(shapely.union_all(shapely.make_valid(parts))) if len(parts) else shapely.Polygon()

    def unseen(self, seen: Iterable[BaseGeometry]) -> BaseGeometry:
        """The tissue that no source shows: nothing is known there, not even that there is no object."""
        if self.tissue.is_empty:
            return shapely.Polygon()
        x0, y0, x1, y1 = self.tissue.bounds
        margin = MARGIN * max(x1 - x0, y1 - y0)
        rest = shapely.difference(self.tissue, shapely.buffer(shapely.union_all(list(seen)), margin))
        return areas_of(shapely.buffer(shapely.buffer(rest, -margin / 2), margin / 2))  # slivers go


def may_lie(geometry: BaseGeometry, slide: BaseGeometry) -> BaseGeometry:
    """Where a doubtful object may be: its outline, a quarter of its diameter wider, on the slide; empty for what has
    no area, and for what has no finite place."""
    if geometry.is_empty or geometry.area <= 0 or not np.isfinite(shapely.get_coordinates(geometry)).all():
        return shapely.Polygon()
    wider = shapely.buffer(geometry, DOUBT * 2 * np.sqrt(geometry.area / np.pi))
    return areas_of(shapely.intersection(wider, slide))


def areas_of(geometry: BaseGeometry) -> BaseGeometry:
    """The areas of a geometry; lines and points that an operation on areas left behind go."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type in ("Polygon", "MultiPolygon")]
    return shapely.union_all(parts) if parts else shapely.Polygon()
