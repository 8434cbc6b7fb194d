"""The result folder of VALIS, without unpickling it.

VALIS writes pictures, a table of its own errors, for large fields two TIFFs per slide, and everything else, also the
rigid matrix of each slide, only into ``data/NAME_registrar.pickle``. That file is parsed, not run (``inert.py``).
Without it the transforms cannot be had: the TIFFs hold a cropped field without its place, and no other file a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError, did_you_mean
from stainda.names import stem
from stainda.registration.exchange.inert import Record, array_or_self, read_inert
from stainda.registration.fields import smooth_and_thin
from stainda.registration.maps import compose
from stainda.registration.transforms import Transform, from_pull

MAX_SIDE = 2048  # points of a field along its longer side that are kept
CANVAS = "VALIS canvas"


@dataclass(frozen=True, eq=False)
class ValisSlide:
    """One slide of a VALIS result, arrays named as in VALIS.

    Attributes:
        name, file: VALIS's name of the slide and the path it had.
        M: (3, 3) from the canvas of rigidly registered images to the processed image.
        processed, canvas, slide, aligned: (rows, columns) of the processed image, the canvas at that scale, level 0 of
            the slide as VALIS read it, and the canvas at level 0.
        backward, forward: (2, h, w) VALIS's ``bk_dxdy`` and ``fwd_dxdy`` on the whole canvas, or ``None``.
    """

    name: str
    file: str
    M: Array
    processed: tuple[int, int]
    canvas: tuple[int, int]
    slide: tuple[int, int]
    aligned: tuple[int, int]
    backward: Array | None
    forward: Array | None
    n_matches: int | None


@dataclass(frozen=True, eq=False)
class ValisResult:
    """All slides of a VALIS result by VALIS's names, and the one that was the reference."""

    path: Path
    slides: Mapping[str, ValisSlide]
    reference: str | None

    def find(self, slide: str, path: Path | None = None) -> ValisSlide:
        """The slide by name, or by the stem or name of its file.

        Raises:
            RegistrationError: it is not in the result.
        """
        wanted = {slide} | ({stem(path), path.name.rpartition(".")[0], path.name} if path else set())
        for section in self.slides.values():
            file = section.file.replace("\\", "/").rsplit("/", 1)[-1]
            if wanted & {section.name, file, stem(file), file.rsplit(".", 1)[0]}:
                return section
        raise RegistrationError(
            f"{slide} is not in this VALIS result", file=self.path, remedy=did_you_mean(slide, self.slides)
        )


def find_registrar(folder: Path) -> Path:
    """The registrar file in a VALIS result folder (or the file itself).

    Raises:
        RegistrationError: there is none, or more than one.
    """
    if folder.is_file():
        return folder
    candidates = sorted(
        [
            *folder.glob("*_registrar.pickle"),
            *folder.glob("*/*_registrar.pickle"),
            *folder.glob("*/*/*_registrar.pickle"),
        ]
    )
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise RegistrationError(
            f"{len(candidates)} VALIS results in this folder", file=folder, remedy="Name one of them"
        )
    fields = any(folder.rglob("*_bk_dxdy.tiff"))
    raise RegistrationError(
        "no VALIS result is here: data/NAME_registrar.pickle is missing"
        + ("; the displacement TIFFs alone hold neither the matrices nor the place of the field" if fields else ""),
        file=folder,
        remedy="Name the folder that VALIS wrote, with its folder data",
    )


def read_valis(folder: str | Path) -> ValisResult:
    """What VALIS found, from its result folder; nothing of it is executed.

    Raises:
        RegistrationError: no result, damaged, or of a version whose entries are named otherwise.
    """
    path = find_registrar(Path(folder))
    whole = read_inert(path)
    slides = whole.get("slide_dict") if isinstance(whole, Record) else None
    if not isinstance(slides, dict) or not all(isinstance(slide, Record) for slide in slides.values()):
        raise RegistrationError("not a VALIS result: it holds no slides", file=path)
    shape = _shape(whole.get("_full_displacement_shape_rc"))
    box = whole.get("_non_rigid_bbox")
    box = (
        None
        if box is None
        else [int(array_or_self(side)) for side in (box if isinstance(box, list) else array_or_self(box))]
    )
    try:
        valis_slides = {str(name): _slide(str(name), section, shape, box, path) for name, section in slides.items()}
    except (TypeError, ValueError, KeyError) as error:
        raise RegistrationError(f"a slide of the VALIS result lacks what is needed ({error})", file=path) from error
    reference = whole.get("reference_img_f")
    named = [name for name, slide in valis_slides.items() if slide.file == reference]
    return ValisResult(path, valis_slides, named[0] if named else None)


def _slide(name: str, record: Record, shape: tuple[int, int] | None, box: list[int] | None, path: Path) -> ValisSlide:
    matrix = array_or_self(record.get("M"))
    if not isinstance(matrix, np.ndarray) or matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise RegistrationError(f"VALIS has no rigid transform for {name}", file=path)
    level0 = np.atleast_2d(array_or_self(record.get("slide_dimensions_wh")))[0]
    canvas = _needed(record, "reg_img_shape_rc")
    fields: list[Array | None] = []
    for attribute, file in (("_bk_dxdy_np", "bk"), ("_fwd_dxdy_np", "fwd")):
        values = array_or_self(record.get(attribute))
        if record.get("stored_dxdy"):
            values = _tiff(path.parent / "displacements" / f"{name}_{file}_dxdy.tiff")
        fields.append(None if values is None else _padded(np.asarray(values), shape or canvas, box))
    matches = array_or_self(record.get("xy_matched_to_prev"))
    return ValisSlide(
        name=str(record.get("name", name)),
        file=str(record.get("src_f", "")),
        M=np.asarray(matrix, float),
        processed=_needed(record, "processed_img_shape_rc"),
        canvas=canvas,
        slide=(int(level0[1]), int(level0[0])),
        aligned=_needed(record, "aligned_slide_shape_rc"),
        backward=fields[0],
        forward=fields[1],
        n_matches=len(matches) if isinstance(matches, np.ndarray) else None,
    )


def _tiff(path: Path) -> Array:
    import tifffile

    try:
        values = tifffile.imread(path)
    except Exception as error:  # tifffile raises whatever a damaged structure leads to
        raise RegistrationError(f"VALIS's displacement field cannot be read ({error})", file=path) from error
    if values.ndim != 3 or 2 not in (values.shape[0], values.shape[2]):
        raise RegistrationError(f"a field of shape {values.shape}", file=path)
    return values if values.shape[0] == 2 else np.moveaxis(values, 2, 0)


def _padded(values: Array, shape: tuple[int, int], box: list[int] | None) -> Array:
    """The field laid on the whole canvas, zero around it, as VALIS's ``pad_displacement`` does."""
    if box is None or values.shape[1:] == shape:
        return values.astype(np.float32)
    whole = np.zeros((2, *shape), np.float32)
    x, y = box[:2]
    height, width = min(values.shape[1], shape[0] - y), min(values.shape[2], shape[1] - x)
    whole[:, y : y + height, x : x + width] = values[:, :height, :width]
    return whole


def _needed(record: Record, name: str) -> tuple[int, int]:
    shape = _shape(record.get(name))
    if shape is None:
        raise KeyError(name)
    return shape


def _shape(value: Any) -> tuple[int, int] | None:
    value = array_or_self(value)
    if value is None:
        return None
    rows, columns = (int(array_or_self(side)) for side in value[:2])
    return rows, columns


def from_valis(
    result: ValisResult,
    slide: str,
    frame: str,
    size: tuple[int, int],
    frame_size: tuple[int, int],
    *,
    path: Path | None = None,
    frame_path: Path | None = None,
    offset: tuple[float, float] | None = None,
    frame_offset: tuple[float, float] | None = None,
) -> Transform:
    """VALIS's map of one slide into another, both ways, as VALIS computes it (``warp_xy_from_to``).

    Fields with more than 2048 points on a side are thinned. ``offset``: where VALIS's level 0 starts in level-0
    pixels of the slide; VALIS reads some slides cropped to their scanned part (OpenSlide's bounds), which starts there.

    Raises:
        RegistrationError: a slide is not in the result, or its size is not the one VALIS read.
    """
    of_slide = _to_canvas(result.find(slide, path), slide, size, offset, result.path)
    of_frame = _to_canvas(result.find(frame, frame_path), frame, frame_size, frame_offset, result.path)
    about = {"kind": "VALIS", "n_matches": result.find(slide, path).n_matches, "valis_reference": result.reference}
    if of_frame.backward is None:  # the reference: it is only shifted and scaled on the canvas
        post = np.linalg.inv(of_frame.matrix) @ of_slide.post
        return Transform(slide, frame, size, frame_size, of_slide.pre, post, of_slide.forward, of_slide.backward, about)
    whole = compose(of_slide, of_frame.inverse)
    spacing = max(whole.grain() / 2, max(frame_size) / MAX_SIDE)
    return from_pull(slide, frame, size, frame_size, whole.from_frame, spacing, about=about)


def _to_canvas(
    slide: ValisSlide, name: str, size: tuple[int, int], offset: tuple[float, float] | None, path: Path
) -> Transform:
    width, height = slide.slide[1], slide.slide[0]
    if offset is None:
        if (width, height) != tuple(size):
            raise RegistrationError(
                f"VALIS read {slide.name} as {width} x {height} px, but the slide {name} has {size[0]} x {size[1]}",
                file=path,
                remedy="Import it with the very file VALIS read; if VALIS read the scanned part only, give the slide, "
                "whose bounds then say where that lies",
            )
        offset = (0.0, 0.0)
    start = np.eye(3)
    start[:2, 2] = -offset[0], -offset[1]
    moved = slide.backward is not None and slide.forward is not None and bool(np.abs(slide.backward).any())
    lattice = slide.backward.shape[1:] if moved and slide.backward is not None else slide.canvas
    pre = _scaling(slide.canvas, lattice) @ np.linalg.inv(slide.M) @ _scaling(slide.slide, slide.processed) @ start
    post = _scaling(lattice, slide.aligned)
    ends = (name, CANVAS, size, (slide.aligned[1], slide.aligned[0]))
    if not moved or slide.backward is None or slide.forward is None:
        return Transform(*ends, pre, post)
    gap = -(-max(lattice) // MAX_SIDE)
    thin = np.diag([1 / gap, 1 / gap, 1.0])
    forward, backward = (
        smooth_and_thin(field, gap, 0 if gap == 1 else gap / 2) for field in (slide.forward, slide.backward)
    )
    return Transform(*ends, thin @ pre, post @ np.linalg.inv(thin), forward, backward)


def _scaling(of: tuple[int, ...], to: tuple[int, ...]) -> Array:
    """Pixels of an image of shape ``of`` (rows, columns) to those of one of shape ``to``."""
    return np.diag([to[1] / of[1], to[0] / of[0], 1.0])
