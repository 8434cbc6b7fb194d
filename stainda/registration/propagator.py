"""Propagation of shapes within one block: from each source section to a target, joined into objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.classes import IGNORE_CLASSES
from stainda.arrays import Array
from stainda.cohort.types import Section
from stainda.config import PropagationConfig
from stainda.objects.linking import link
from stainda.objects.overlap import dice_pairs
from stainda.registration.confidence import ALONE, features, placed, probabilities
from stainda.registration.content import typicality
from stainda.registration.coverage import Ground, areas_of
from stainda.registration.evidence import LocalEvidence
from stainda.registration.interpolation import interpolate
from stainda.registration.micro import ACROSS, MicroRegistration, micro_register, not_aligned, pixels_across
from stainda.registration.moved_shapes import moved_nuclei, same_kind
from stainda.registration.neighbourhood import DensityPyramid
from stainda.registration.propagated_shapes import PropagatedObject, PropagatedShapes
from stainda.registration.results import BlockResult
from stainda.registration.sections import Refusal, SectionImage, open_section
from stainda.registration.shapes_in_pieces import cut_at_pieces, footprint
from stainda.registration.similarity import VIEW_DIM
from stainda.registration.transforms import Between, map_shapes
from stainda.registration.voting import voted

if TYPE_CHECKING:
    import geopandas as gpd

OBJECT_PIXELS = 32  # an object should measure so many working pixels across, if the slide has them
MOST_PIXELS = 4096  # longest side of a working image


class Propagator:
    """Propagates shapes between the sections of one block; opens each section once.

    Args:
        result: the registered block. sections: all of it.
    """

    def __init__(self, result: BlockResult, sections: Sequence[Section], config: PropagationConfig) -> None:
        self.result, self.sections, self.config = result, tuple(sections), config
        self._images: dict[str, SectionImage | Refusal] = {}
        self._grounds: dict[str, Ground] = {}
        self._dim = 2 * VIEW_DIM

    def prepare(self, own_shapes: Mapping[str, gpd.GeoDataFrame], sources: Sequence[Section]) -> None:
        """Choose how finely the sections are read: half of the objects at least :data:`OBJECT_PIXELS` across."""
        for row in sources:
            areas = shapely.area(np.asarray(own_shapes[row.slide].geometry))
            transform = self.result.transforms.get(row.slide)
            if transform is not None and (areas > 0).any():
                diameter = 2 * np.sqrt(float(np.median(areas[areas > 0])) / np.pi)
                wanted = OBJECT_PIXELS * max(transform.size) / max(diameter, 1e-9)
                self._dim = int(np.clip(max(self._dim, wanted), 2 * VIEW_DIM, MOST_PIXELS))

    def obstacle(self, source: Section, target: Section) -> str:
        """Why nothing can be propagated between two sections; empty where nothing stands in the way."""
        for role, row in (("source", source), ("target", target)):
            if row.slide in self.result.refused:
                return f"{role} {row.slide} was refused at registration: {self.result.refused[row.slide]}"
            if row.slide not in self.result.transforms:
                return f"{role} {row.slide} has no transform"
        for role, row in (("source", source), ("target", target)):
            image = self._image(row)
            if isinstance(image, Refusal):
                return f"{role} {row.slide}: {image.reason}"
        return ""

    def ground(self, row: Section) -> Ground:
        if row.slide not in self._grounds:
            image = self._image(row)
            assert isinstance(image, SectionImage)
            self._grounds[row.slide] = Ground.of(image)
        return self._grounds[row.slide]

    def propagate(self, shapes: gpd.GeoDataFrame, source: Section, target: Section) -> PropagatedShapes:
        """The shapes of one source propagated to one target, each measured and checked."""
        between = Between(self.result.transforms[source.slide], self.result.transforms[target.slide])
        source_ground, target_ground = self.ground(source), self.ground(target)
        outlines = np.asarray(shapes.geometry)
        warped = map_shapes(shapes, between.source, between.target)
        cut = cut_at_pieces(outlines, between.steps())
        densities = DensityPyramid(source_ground.image), DensityPyramid(target_ground.image)
        aligned = self._aligned(np.asarray(warped.geometry, dtype=object), between, densities)
        warped = warped.set_geometry(list(aligned.outlines))
        warped["properties"] = [
            moved_nuclei([entry], partial(np.add, step))[0] if step.any() else entry
            for entry, step in zip(warped["properties"], aligned.moved, strict=True)
        ]
        shares = np.ones(len(shapes))  # of each area, that has a place
        shares[cut.index] = cut.shares
        measured = self._measure(shapes, aligned, shares, between, densities, target_ground)
        after = np.asarray(warped.geometry)
        faults = tuple(self._fault(after[k], target_ground, measured, k) for k in range(len(after)))
        faults = tuple(
            fault and ((after[k].is_empty and between.nowhere(shapely.get_coordinates(outlines[k]))) or fault)
            for k, fault in enumerate(faults)
        )
        beyond = set(cut.index.tolist())
        touched = tuple(
            footprint(outlines[k], between.steps()) if fault and k in beyond else shapely.Polygon()
            for k, fault in enumerate(faults)
        )
        seen = target_ground.seen_from(source_ground, between)
        return PropagatedShapes(source, shapes, warped, measured, faults, seen, touched)

    def join(self, propagated: Sequence[PropagatedShapes], target: Section) -> list[PropagatedObject]:
        """The objects of a target, from all the sources that reach it."""
        usable = [
            [k for k, fault in enumerate(from_source.faults) if not fault and not _ignorable(from_source, k)]
            for from_source in propagated
        ]
        numbers = link([from_source.warped.iloc[rows] for from_source, rows in zip(propagated, usable, strict=True)])
        tracks: dict[int, list[tuple[int, int]]] = {}
        for source, (rows, group_numbers) in enumerate(zip(usable, numbers, strict=True)):
            for row, number in zip(rows, group_numbers, strict=True):
                tracks.setdefault(int(number), []).append((source, row))
        objects = [self._join(propagated, target, members) for members in tracks.values()]
        if self.config.between in ("majority", "staple") and len(propagated) > 1:
            drawn = [from_source.warped.iloc[rows] for from_source, rows in zip(propagated, usable, strict=True)]
            slides, seen = [row.section.slide for row in propagated], [row.seen for row in propagated]
            after = voted(drawn, slides, seen, objects, self.config.between)
            objects = [
                winner if winner.geometry is before.geometry else self._measured_anew(propagated, target, winner)
                for before, winner in zip(objects, after, strict=True)
            ]
        return self._with_probabilities(propagated, target, objects)

    # -- one source -------------------------------------------------------------------------------------------------

    def _image(self, row: Section) -> SectionImage | Refusal:
        if row.slide not in self._images:
            self._images[row.slide] = open_section(row.slide, row.path, row.mpp, self._dim)
        return self._images[row.slide]

    def _aligned(
        self, outlines: Array, between: Between, densities: tuple[DensityPyramid, DensityPyramid]
    ) -> MicroRegistration:
        """The outlines on the target, aligned once more at their own scale where that is wanted."""
        wanted = self.config.micro
        if wanted == "auto":
            areas = shapely.area(outlines)
            widths = 2 * np.sqrt(areas[areas > 0] / np.pi)
            wanted = pixels_across(widths, densities[1].image) < ACROSS
        return micro_register(densities, between, outlines) if wanted else not_aligned(outlines)

    def _measure(
        self,
        shapes: gpd.GeoDataFrame,
        aligned: MicroRegistration,
        shares: Array,
        between: Between,
        densities: tuple[DensityPyramid, DensityPyramid],
        target_ground: Ground,
    ) -> dict[str, Array]:
        before, after = np.asarray(shapes.geometry), aligned.outlines
        areas = shapely.area(before)
        overall = np.linalg.det(between.matrix[:2, :2])
        centres = _centres(before, after, between)
        local = between.area_change(centres) / overall
        ratio = np.where(areas > 0, shapely.area(after) / np.maximum(areas * shares, 1e-12) / abs(overall), local)
        on_tissue = shapely.area(shapely.intersection(after, target_ground.tissue)) / np.maximum(
            shapely.area(after), 1e-12
        )
        tissue = np.where(
            shapely.area(after) > 0, on_tissue, shapely.intersects(after, target_ground.tissue).astype(float)
        )
        diameter = np.maximum(2 * np.sqrt(areas / np.pi), 4 * densities[0].image.downsample)
        doubt = between.doubt(centres)
        if frozenset((between.slide, between.frame)) in self.result.contradicted:
            doubt = np.ones_like(doubt)
        evidence = LocalEvidence.of(densities, between, shapely.bounds(after), aligned.moved)
        looked = evidence.compared > 0.2
        usual = np.ones(len(before))
        for cls in dict.fromkeys(shapes["class"]):
            same = (shapes["class"] == cls).to_numpy(bool)
            usual[same] = np.median(diameter[same])
        return {
            "area_ratio": ratio, "area_change": local, "tissue": tissue, "diameter": diameter, "usual": usual,
            "round_trip": between.round_trip(centres), "unsure": doubt,
            "structure": evidence.structure, "offset": evidence.offset,
            "gain": evidence.gain, "inner": evidence.inner, "ring": evidence.ring,
            "pair_structure": np.full(len(before), np.median(evidence.structure[looked]) if looked.any() else 0.0),
            "pair_offset": np.full(len(before), np.median(evidence.offset[looked]) if looked.any() else 0.5),
            "micro_px": aligned.shift, "micro_gain": aligned.gain, "placed": shares,
        }  # fmt: skip

    def _fault(self, geometry: BaseGeometry, target_ground: Ground, measured: Mapping[str, Array], index: int) -> str:
        config = self.config
        if geometry is None or geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
            return "has no finite outline in the target"
        if not geometry.intersects(target_ground.slide):
            return "lies outside the target slide"
        share, ratio = measured["tissue"][index], measured["area_ratio"][index]
        if share < config.min_tissue:
            return f"only {share:.0%} lies on tissue (at least {config.min_tissue:.0%})"
        if not config.min_area_ratio <= ratio <= config.max_area_ratio:
            return f"area ratio {ratio:.2f} is outside {config.min_area_ratio:g} to {config.max_area_ratio:g}"
        return ""

    # -- several sources --------------------------------------------------------------------------------------------

    def _join(
        self, propagated: Sequence[PropagatedShapes], target: Section, members: list[tuple[int, int]]
    ) -> PropagatedObject:
        def away(member: tuple[int, int]) -> tuple[int, int]:
            number = propagated[member[0]].section.section
            return abs(number - target.section), number

        members = sorted(members, key=away)
        outlines = {member: propagated[member[0]].warped.geometry.iloc[member[1]] for member in members}
        sides = [
            next(
                (
                    candidate
                    for candidate in members
                    if (propagated[candidate[0]].section.section - target.section) * side > 0
                ),
                None,
            )
            for side in (-1, 1)
        ]
        first, second = sides
        nearest = propagated[members[0][0]].section.slide
        geometry, how = outlines[members[0]], f"propagated from {nearest}"
        if self.config.between == "interpolate" and first is not None and second is not None:
            low, high = (propagated[side[0]].section for side in (first, second))
            share = (target.section - low.section) / (high.section - low.section)
            middle = interpolate(outlines[first], outlines[second], share)
            if not middle.is_empty:
                geometry, how = middle, f"interpolated between {low.slide} and {high.slide}"
        lacking = tuple(
            from_source.section.slide
            for k, from_source in enumerate(propagated)
            if all(k != source for source, _ in members) and self._shows(from_source, geometry)
        )
        dissent = tuple(1 - _dice(outlines[member], geometry) for member in members)
        inside = _clipped(geometry, self.ground(target).tissue)
        cls = str(propagated[members[0][0]].shapes["class"].iloc[members[0][1]])
        return PropagatedObject(cls, tuple(members), inside, how, lacking, dissent, clipped=inside is not geometry)

    def _measured_anew(
        self, propagated: Sequence[PropagatedShapes], target: Section, target_object: PropagatedObject
    ) -> PropagatedObject:
        """An object of another outline: how far its members differ from it, and what of it lies on tissue."""
        outlines = [propagated[source].warped.geometry.iloc[row] for source, row in target_object.members]
        inside = _clipped(target_object.geometry, self.ground(target).tissue)
        return replace(
            target_object,
            geometry=inside,
            clipped=inside is not target_object.geometry,
            dissent=tuple(1 - _dice(outline, target_object.geometry) for outline in outlines),
        )

    @staticmethod
    def _shows(from_source: PropagatedShapes, geometry: BaseGeometry) -> bool:
        return bool(from_source.seen.contains(geometry.centroid))

    def _with_probabilities(
        self, propagated: Sequence[PropagatedShapes], target: Section, objects: list[PropagatedObject]
    ) -> list[PropagatedObject]:
        if not objects:
            return []
        ground = self.ground(target)
        classes = [target_object.cls for target_object in objects]
        geometries = np.array([target_object.geometry for target_object in objects], dtype=object)
        typical = np.full(len(objects), np.nan)
        for cls in dict.fromkeys(classes):
            same = np.array([cls == other for other in classes])
            typical[same] = typicality(ground.image, geometries[same], f"{target.slide}/{cls}", ground.layers)
        nearest = np.array([target_object.members[0][0] for target_object in objects])
        among = np.full(len(objects), np.nan)
        for source in np.unique(nearest):
            known = typical[(nearest == source) & np.isfinite(typical)]
            among[nearest == source] = np.median(known) if len(known) else np.nan
        rows = [self._row(propagated, target, target_object) for target_object in objects]
        table = {name: np.array([row[name] for row in rows], float) for name in rows[0]}
        table |= {"typical": typical, "pair_typical": among}
        sized = np.array([target_object.geometry.area > 0 for target_object in objects])
        diameter = np.where(sized, table["diameter"], np.nan)
        values_by_name = features(table, diameter, table["usual"], table["apart_um"], table["mpp"])
        right, exists = probabilities(values_by_name)
        right = right * placed(
            table["area_change"], table["round_trip"] / table["diameter"], table["tissue"], table["unsure"]
        )
        return [
            replace(
                target_object,
                features={name: float(values[k]) for name, values in values_by_name.items()},
                right=0.0 if target_object.outvoted else float(right[k]),
                exists=float(exists[k]),
                unsure=float(table["unsure"][k]),
            )
            for k, target_object in enumerate(objects)
        ]

    def _row(
        self, propagated: Sequence[PropagatedShapes], target: Section, target_object: PropagatedObject
    ) -> dict[str, float]:
        """What is known about an object, from its nearest shape and from the sections around the target."""
        source, index = target_object.members[0]
        nearest = propagated[source]
        row = {name: float(values[index]) for name, values in nearest.measured.items()}
        numbers = [propagated[k].section.section - target.section for k, _ in target_object.members]
        apart, dissent = abs(numbers[0]), target_object.dissent
        mpp = self.ground(nearest.section).image.mpp
        row |= {
            "apart_um": apart * self.config.spacing_um, "mpp": np.nan if mpp is None else float(mpp),
            "flanked": float(min(numbers) < 0 < max(numbers)),
            "agree": float(np.mean([1 - value for value in dissent])) if len(dissent) > 1 else ALONE,
            "ended": self._ended(propagated, target, target_object, numbers[0]),
        }  # fmt: skip
        return row

    def _ended(
        self, propagated: Sequence[PropagatedShapes], target: Section, target_object: PropagatedObject, nearest: int
    ) -> float:
        """How far the target lies on the way from the object's nearest outline to the section that lacks it."""
        side = 1 if nearest < 0 else -1  # away from the outline, as section numbers go
        lacking = [c.section.section - target.section for c in propagated if c.section.slide in target_object.lacking]
        nearer = [gap for gap in lacking if nearest * gap > 0 and abs(gap) < abs(nearest)]
        if nearer:
            return 1.5
        beyond = [abs(gap) for gap in lacking if gap * side > 0]
        return abs(nearest) / (abs(nearest) + min(beyond)) if beyond else 0.0


def _centres(before: Array, after: Array, between: Between) -> Array:
    """The middle of each shape, level-0 pixels of the source (n, 2); where it lies between two pieces of tissue, that
    of the largest part which has a place."""
    centres = shapely.get_coordinates(shapely.centroid(before)).reshape(-1, 2)
    lost = np.flatnonzero(~np.isfinite(between.to_frame(centres)).all(axis=1) & (shapely.area(after) > 0))
    for k in lost:
        largest = max(shapely.get_parts(after[k]), key=lambda part: part.area)
        middle = between.from_frame(shapely.get_coordinates(shapely.point_on_surface(largest)))
        if np.isfinite(middle).all():
            centres[k] = middle[0]
    return centres


def _ignorable(from_source: PropagatedShapes, row: int) -> bool:
    return from_source.shapes["class"].iloc[row] in IGNORE_CLASSES


def _dice(first: BaseGeometry, second: BaseGeometry) -> float:
    """Dice of two areas; of points and lines 1."""
    if first.area <= 0 or second.area <= 0:
        return 1.0
    pair = dice_pairs(np.array([first], dtype=object), np.array([second], dtype=object))[2]
    return float(pair[0]) if len(pair) else 0.0


def _clipped(geometry: BaseGeometry, tissue: BaseGeometry) -> BaseGeometry:
    """An area cut at the outer border of the tissue; lines and points are left as they are."""
    if shapely.get_dimensions(geometry) != 2 or tissue.contains(geometry):
        return geometry
    return areas_of(same_kind(shapely.intersection(geometry, tissue)))
