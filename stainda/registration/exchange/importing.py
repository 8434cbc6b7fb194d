"""Import of transforms from other programs: detection of the file type, units, and the :class:`Transform`.

What a file is can be read from it. Which way it maps and what its coordinates count often cannot; then it must be said,
and an import that lacks it is refused rather than guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from stainda.annotations import read_landmarks
from stainda.annotations.guarded import read_json
from stainda.arrays import Array
from stainda.errors import AnnotationError, RegistrationError, did_you_mean
from stainda.names import ending
from stainda.registration.affine import apply_affine, fit_affine
from stainda.registration.exchange.itk_field import SIDECAR_FORMAT, is_field, read_field, sidecar
from stainda.registration.exchange.itk_text import ITK_HEAD, read_elastix, read_itk_text
from stainda.registration.exchange.matrices import read_matrix
from stainda.registration.exchange.spaces import Direction, Origin, Space, Units
from stainda.registration.exchange.thinplate import from_landmarks
from stainda.registration.exchange.valis_folder import from_valis, read_valis
from stainda.registration.exchange.world import STRAIGHT, PointFunction
from stainda.registration.maps import as_points
from stainda.registration.transforms import FORMAT, Transform, from_pull, from_push

Kind = Literal["affine", "landmarks", "itk", "field", "elastix", "valis", "stainda"]
LATTICE_SIDE = 1024  # points along the longer side of the lattice on which a deformation is kept, at most
FINER = 4  # lattice points per point of the grid it was made on


@dataclass(frozen=True)
class Ends:
    """The section and the frame an import joins.

    Attributes:
        slide, frame: their names. size, frame_size: (width, height), level-0 pixels.
        mpp, frame_mpp: micrometres per level-0 pixel, where known.
        path, frame_path: their files; only VALIS results are searched by them.
        bounds, frame_bounds: (x, y, width, height) of the scanned part, level-0 pixels.
    """

    slide: str
    frame: str
    size: tuple[int, int]
    frame_size: tuple[int, int]
    mpp: float | None = None
    frame_mpp: float | None = None
    path: Path | None = None
    frame_path: Path | None = None
    bounds: tuple[int, int, int, int] | None = None
    frame_bounds: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Import:
    """A file to import, and its stated properties.

    Attributes:
        file: the file, or the folder of a VALIS result.
        kind: what it is; ``None``: recognised by its content.
        direction: ``push`` takes section points to the frame, ``pull`` frame points to the section (ITK and elastix map
            from the fixed to the moving image: ``pull`` where the frame was fixed, ``push`` where the section was).
        units: what coordinates count, see :class:`Space`.
        downsample, frame_downsample: level-0 pixels per pixel of the registered picture of the section and the frame.
        origin: ``corner`` or ``centre``; ``None``: ``centre`` for ITK and elastix, ``corner`` otherwise.
        landmarks: the frame's landmarks, where ``file`` holds those of the section.
        smoothing: of the thin-plate spline.
    """

    file: Path
    kind: Kind | None = None
    direction: Direction | None = None
    units: Units | None = None
    downsample: float = 1.0
    frame_downsample: float = 1.0
    origin: Origin | None = None
    landmarks: Path | None = None
    smoothing: float = 0.0


def told_kind(path: Path) -> Kind:
    """What a file is, by its name and first bytes.

    Raises:
        RegistrationError: it is none of the kinds that are read.
    """
    if path.is_dir() or path.name.endswith("_registrar.pickle"):
        return "valis"
    if not path.is_file():
        raise RegistrationError("there is no such file", file=path, remedy="Check the path")
    if is_field(path):
        return "field"
    with path.open("rb") as stream:
        head = stream.read(4096).decode("utf-8", errors="replace")
    if head.startswith(ITK_HEAD):
        return "itk"
    if "(Transform " in head:
        return "elastix"
    if ending(path) == ".json" and f'"{FORMAT}"' in path.read_text("utf-8", errors="replace")[:1_000_000]:
        return "stainda"
    first = head.splitlines()[0].lower() if head.strip() else ""
    cells = {cell.strip() for cell in first.replace(";", ",").replace("\t", ",").split(",")}
    if {"x", "y"} <= cells:
        return "landmarks"
    if ending(path) in (".npy", ".json", ".csv", ".txt", ".mat"):
        if ending(path) == ".mat":
            raise RegistrationError("MATLAB and FSL matrices are not read", file=path, remedy="Write the matrix as CSV")
        return "affine"
    raise RegistrationError(
        f"no transform that is read ({ending(path) or 'no suffix'})",
        file=path,
        remedy=f"Say what it is: {', '.join(get_args(Kind))}",
    )


def import_transform(what: Import, ends: Ends) -> Transform:
    """The transform in a file made elsewhere, from the section into the frame.

    Raises:
        RegistrationError: it cannot be read, something about it must be said, or it has no inverse.
    """
    kind = what.kind or told_kind(what.file)
    if kind not in get_args(Kind):
        raise RegistrationError(f"no kind {kind!r} of transform", remedy=did_you_mean(kind, get_args(Kind)))
    try:
        transform = _READERS[kind](what, ends)
    except RegistrationError as error:
        raise error if error.file else RegistrationError(error.message, file=what.file, remedy=error.remedy) from error
    provenance = {"imported_from": what.file.name, "kind": kind} | {
        key: value for key, value in transform.about.items() if key != "kind"
    }
    return replace(transform, about=dict(transform.about) | provenance)


def _affine(what: Import, ends: Ends) -> Transform:
    section, frame = _spaces(what, ends, "corner")
    matrix = read_matrix(what.file)
    if _direction(what) == "pull":
        matrix = np.linalg.inv(matrix)
    whole = frame.to_level0 @ matrix @ np.linalg.inv(section.to_level0)
    return Transform.affine(ends.slide, ends.size, ends.frame, ends.frame_size, whole)


def _landmarks(what: Import, ends: Ends) -> Transform:
    if what.landmarks is None:
        raise RegistrationError(
            "only the section's landmarks are here; the frame's are needed too",
            remedy="Name the file of the frame's",
        )
    section = Space(what.units or "px", what.downsample, ends.mpp, what.origin or "corner")
    frame = Space(what.units or "px", what.frame_downsample, ends.frame_mpp, what.origin or "corner")
    try:
        first, second = read_landmarks(what.file).set_index("id"), read_landmarks(what.landmarks).set_index("id")
    except AnnotationError as error:
        raise RegistrationError(error.message, file=error.file, remedy=error.remedy) from error
    shared = first.index.intersection(second.index)
    source = apply_affine(section.to_level0, first.loc[shared, ["x", "y"]].to_numpy(float))
    target = apply_affine(frame.to_level0, second.loc[shared, ["x", "y"]].to_numpy(float))
    return from_landmarks(
        ends.slide,
        ends.frame,
        ends.size,
        ends.frame_size,
        source,
        target,
        smoothing=what.smoothing,
        names=list(map(str, shared)),
    )


def _itk(what: Import, ends: Ends) -> Transform:
    return _from_world(what, ends, *read_itk_text(what.file))


def _elastix(what: Import, ends: Ends) -> Transform:
    return _from_world(what, ends, *read_elastix(what.file))


def _field(what: Import, ends: Ends) -> Transform:
    description_file = sidecar(what.file)
    if description_file.is_file():  # an export of ours says what its numbers mean
        description = read_json(description_file, 1_000_000)
        if isinstance(description, dict) and description.get("format") == SIDECAR_FORMAT:
            for key in ("direction", "units", "origin"):
                given = getattr(what, key)
                if given is not None and given != description.get(key):
                    raise RegistrationError(
                        f"{key} is {description.get(key)} according to {description_file.name}, not {given}"
                    )
            what = replace(
                what, direction=description["direction"], units=description["units"], origin=description["origin"]
            )
            ends = replace(
                ends, mpp=description.get("mpp") or ends.mpp, frame_mpp=description.get("frame_mpp") or ends.frame_mpp
            )
    function, spacing = read_field(what.file)
    return _from_world(what, ends, function, spacing * FINER)  # one lattice point per point of the field


def _valis(what: Import, ends: Ends) -> Transform:
    result = read_valis(what.file)
    offsets = [
        _valis_offset(result.find(name, path).slide, size, bounds)
        for name, path, size, bounds in (
            (ends.slide, ends.path, ends.size, ends.bounds),
            (ends.frame, ends.frame_path, ends.frame_size, ends.frame_bounds),
        )
    ]
    return from_valis(
        result, ends.slide, ends.frame, ends.size, ends.frame_size, path=ends.path, frame_path=ends.frame_path,
        offset=offsets[0], frame_offset=offsets[1],
    )  # fmt: skip


def _valis_offset(
    read: tuple[int, int], size: tuple[int, int], bounds: tuple[int, int, int, int] | None
) -> tuple[float, float] | None:
    """Where VALIS's level 0 starts, if it read the scanned part of the slide and not all of it."""
    rows, columns = read
    if bounds is not None and (columns, rows) == tuple(bounds[2:]) and (columns, rows) != tuple(size):
        return float(bounds[0]), float(bounds[1])
    return None


def _stainda(what: Import, ends: Ends) -> Transform:
    transform = Transform.load(what.file)
    if (transform.size, transform.frame_size) != (tuple(ends.size), tuple(ends.frame_size)):
        raise RegistrationError(
            f"was made for pictures of {transform.size} and {transform.frame_size} px, "
            f"not {ends.size} and {ends.frame_size}"
        )
    return replace(transform, slide=ends.slide, frame=ends.frame)


_READERS = {
    "affine": _affine, "landmarks": _landmarks, "itk": _itk, "field": _field, "elastix": _elastix, "valis": _valis,
    "stainda": _stainda,
}  # fmt: skip


def _from_world(what: Import, ends: Ends, function: PointFunction, grain: float) -> Transform:
    """A transform from a function of physical coordinates that may bend within ``grain`` of their units."""
    section, frame = _spaces(what, ends, "centre")
    direction = _direction(what)
    start, end = (frame, section) if direction == "pull" else (section, frame)
    size = ends.frame_size if direction == "pull" else ends.size

    def level0(xy: Array) -> Array:
        return apply_affine(end.to_level0, function(apply_affine(np.linalg.inv(start.to_level0), as_points(xy))))

    if grain == STRAIGHT:
        corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size], float)
        matrix = fit_affine(corners, level0(corners))
        whole = np.linalg.inv(matrix) if direction == "pull" else matrix
        return Transform.affine(ends.slide, ends.size, ends.frame, ends.frame_size, whole)
    gap = max(grain * start.unit_pixels / FINER, max(size) / LATTICE_SIDE)
    make = from_pull if direction == "pull" else from_push
    return make(ends.slide, ends.frame, ends.size, ends.frame_size, level0, max(gap, 1.0))


def _spaces(what: Import, ends: Ends, origin: Origin) -> tuple[Space, Space]:
    if what.units is None:
        raise RegistrationError(
            "what its coordinates count is not in the file",
            remedy="Say units: px (of the picture), um or mm",
        )
    origin = what.origin or origin
    return (
        Space(what.units, what.downsample, ends.mpp, origin),
        Space(what.units, what.frame_downsample, ends.frame_mpp, origin),
    )


def _direction(what: Import) -> Direction:
    if what.direction is None or what.direction not in get_args(Direction):
        raise RegistrationError(
            f"which way it maps {'is not in the file' if what.direction is None else f'is no {what.direction!r}'}",
            remedy="Say direction: push (section points to the frame) or pull (frame points to the section; ITK and "
            "elastix with the frame as fixed image)",
        )
    return what.direction
