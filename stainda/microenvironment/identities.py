"""Structures identified across the sections of a block, in its frame, with their volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations import make_shapes
from stainda.microenvironment.volumes import OutlineErrors, Volume, cavalieri
from stainda.objects.moving import moved_geometries
from stainda.objects.support import SupportRules, ToFrame, mutual_comparison
from stainda.registration.maps import PointMap

REACH = 3
"""Sections in the order of the cut over which a structure may be missed and still be the same."""
ASSUMED_UM = 20.0
"""Error where none is known."""
SIZE_RATIO = 8.0
"""Largest ratio of areas of one structure in consecutive sections: near its pole a profile grows quickly."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """Outlines of structures on one section, level-0 pixels: arrays (m,).

    Attributes:
        number: of the section in the cut.
        drawn: the outline was drawn (or detected) on this section, not propagated to it.
        tissue: of the section, level-0 pixels: where no outline lies in it, there is no structure.
    """

    number: int
    outlines: npt.NDArray[np.object_]
    ids: npt.NDArray[np.object_]
    classes: npt.NDArray[np.object_]
    drawn: npt.NDArray[np.bool_]
    tissue: BaseGeometry


@dataclass(frozen=True)
class Identity:
    """One structure of a block: where it lies in the frame (micrometres), the sections that show it, its volume.

    The volume rests on drawn outlines alone: a propagated one repeats the area of its source.
    """

    block: str
    identity: str
    cls: str
    x_um: float
    y_um: float
    sections: tuple[str, ...]
    volume: Volume


def identify(
    block: str,
    profiles: Mapping[str, Profiles],
    transforms: Mapping[str, PointMap],
    errors_um: Mapping[str, float],
    frame_mpp: float,
    spacing_um: float,
    *,
    reach: int = REACH,
) -> tuple[dict[str, dict[str, str]], list[Identity]]:
    """Name the structures of a block.

    Args:
        profiles: by section, in the order of the cut. transforms: of each into the frame.
        errors_um: of each section against the frame; ``nan`` where not known.
        frame_mpp: micrometres per pixel of the frame. spacing_um: from one section number to the next.

    Returns:
        section -> id of an outline -> name of the structure; and the structures.
    """
    tables = {
        slide: make_shapes(profile.outlines, list(profile.classes), id=list(profile.ids))
        for slide, profile in profiles.items()
    }
    to_frame: dict[str, ToFrame] = {slide: transforms[slide].to_frame for slide in profiles}
    rank = {
        slide: index for index, slide in enumerate(sorted(profiles, key=lambda slide_name: profiles[slide_name].number))
    }
    error = {slide: (um if np.isfinite(um) else ASSUMED_UM) / frame_mpp for slide, um in errors_um.items()}
    rules = SupportRules(error=error, reach=reach, size_ratio=SIZE_RATIO)
    compared = mutual_comparison(tables, to_frame, rules, order=rank, name=block)
    names: dict[str, dict[str, str]] = {}
    members: dict[str, list[tuple[str, int]]] = {}
    for slide, table in compared.items():
        names[slide] = dict(zip(profiles[slide].ids.tolist(), table["identity"], strict=True))
        for row, name in enumerate(table["identity"]):
            members.setdefault(name, []).append((slide, row))
    moved = {slide: moved_geometries(profile.outlines, to_frame[slide])[0] for slide, profile in profiles.items()}
    drawn_on = {slide for slide, profile in profiles.items() if profile.drawn.any()}
    shown_area = {
        slide: shapely.union_all(moved_geometries(shapely.get_parts(profiles[slide].tissue), to_frame[slide])[0])
        for slide in drawn_on
    }
    profiled, places = {}, {}
    for name, rows in members.items():
        outlines = np.array([moved[slide][row] for slide, row in rows], dtype=object)
        middles = shapely.get_coordinates(shapely.centroid(outlines))
        centre = middles.mean(axis=0) if len(middles) else np.full(2, np.nan)  # it has no place in the frame
        places[name] = centre * frame_mpp
        area = {
            float(profiles[slide].number): float(moved[slide][row].area) * frame_mpp**2
            for slide, row in rows
            if profiles[slide].drawn[row]
        }
        place = shapely.Point(centre)
        shown = {
            float(profiles[slide].number): profiles[slide].number in area or bool(shown_area[slide].contains(place))
            for slide in drawn_on
        }
        profiled[name] = area, shown
    errors = OutlineErrors.of(profiled.values())
    identified = []
    for name, rows in members.items():
        cls = str(profiles[rows[0][0]].classes[rows[0][1]])
        slides = tuple(slide for slide, _ in rows)
        x, y = places[name]
        volume = cavalieri(*profiled[name], spacing_um, errors)
        identified.append(Identity(block, name, cls, float(x), float(y), slides, volume))
    return names, identified
