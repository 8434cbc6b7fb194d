"""Displacement fields as ITK, SimpleITK, elastix and ANTs read and write them: NIfTI, MetaImage, NRRD.

ITK's convention: the field lies on the fixed image (here the frame) and ``x + d(x)`` is the point of the moving image
(the section), in physical units, x to the right and y down as in the picture (LPS, where a flat image has no third
axis). In NIfTI files ITK 5.4 writes the grid with x and y negated (RAS) and leaves the vectors as they are (LPS), so a
program that reads the file without ITK (nibabel) must negate the grid's x and y, not those of the vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stainda.errors import MissingDependencyError, RegistrationError
from stainda.files import whole_file, write_json
from stainda.names import ending
from stainda.registration.affine import apply_affine
from stainda.registration.exchange.spaces import Space, Units
from stainda.registration.exchange.world import PointFunction, field
from stainda.registration.maps import PointMap

SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")
MAX_VALUES = 400_000_000
MAX_SIDE = 4096  # grid points of an exported field along its longer side
SIDECAR_FORMAT = "stainda-field"


def is_field(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def sidecar(path: Path) -> Path:
    """Where the meaning of an exported field is written: ``NAME.nii.gz`` -> ``NAME.nii.gz.json``."""
    return path.with_name(path.name + ".json")


def simpleitk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingDependencyError(
            "displacement fields are read and written with SimpleITK, which is not installed",
            remedy="pip install 'stainda[registration]'",
        ) from error
    return SimpleITK


def write_field(
    mapping: PointMap,
    path: Path,
    *,
    units: Units = "px",
    mpp: float | None = None,
    frame_mpp: float | None = None,
    spacing: float | None = None,
) -> Path:
    """Write a map as a displacement field, and next to it a JSON that says what its numbers mean.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.mha`` or ``.nrrd``.
        units: of the physical space. ``px``: an image with spacing 1 read at level 0. ``um``, ``mm``: with its pixel
            size, then ``mpp`` (of the section) and ``frame_mpp`` are needed. The origin is the centre of the first
            level-0 pixel, as programs built on ITK have it. A reduced picture, ``n`` level-0 pixels per pixel, must be
            given the origin ``(n - 1) / 2`` level-0 pixels.
        spacing: level-0 pixels of the frame between grid points; by default fine enough for the transform.

    Raises:
        RegistrationError: a suffix that ITK does not know, or no pixel size for units that need one.
        MissingDependencyError: SimpleITK is not installed.
    """
    path = Path(path)
    if mapping.torn:
        raise RegistrationError(
            "pieces of tissue have transforms of their own, between which a displacement field has no values",
            file=path,
            remedy="Export the warped slide (.ome.tif), or warp points and shapes",
        )
    if not is_field(path) or ending(path) == ".mhd":
        raise RegistrationError("a displacement field is .nii, .nii.gz, .mha or .nrrd", file=path)
    sitk = simpleitk()
    section = Space(units, mpp=mpp, origin="centre")
    frame = Space(units, mpp=frame_mpp, origin="centre")
    longest = max(mapping.frame_size)
    if spacing is None:
        grain = mapping.grain()
        spacing = min(grain / 2, longest / 32) if np.isfinite(grain) else longest / 32
    spacing = float(max(spacing, longest / MAX_SIDE, 1e-3))
    width, height = (max(2, int(np.ceil(side / spacing)) + 1) for side in mapping.frame_size)
    columns, rows = np.meshgrid(np.arange(width) * spacing, np.arange(height) * spacing)
    level0 = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    frame_points = apply_affine(np.linalg.inv(frame.to_level0), level0)
    section_points = apply_affine(np.linalg.inv(section.to_level0), mapping.from_frame(level0))
    image = sitk.GetImageFromArray((section_points - frame_points).reshape(height, width, 2), isVector=True)
    image.SetSpacing([spacing / frame.unit_pixels] * 2)
    image.SetOrigin([0.0, 0.0])
    suffix = next(end for end in SUFFIXES[::-1] if path.name.lower().endswith(end))
    with whole_file(path) as aside:
        written = aside.with_name(f"{aside.name.split(suffix)[0]}-itk{suffix}")  # ITK goes by the suffix
        try:
            sitk.WriteImage(image, str(written), useCompression=suffix != ".nii")
            written.replace(aside)
        finally:
            written.unlink(missing_ok=True)
    write_json(sidecar(path), {
        "format": SIDECAR_FORMAT, "version": 1, "slide": mapping.slide, "frame": mapping.frame,
        "size": list(mapping.size), "frame_size": list(mapping.frame_size), "units": units, "direction": "pull",
        "origin": "centre", "mpp": mpp, "frame_mpp": frame_mpp,
        "meaning": "x + d(x): from the frame (fixed image, on which the field lies) to the section (moving image)",
    })  # fmt: skip
    return path


def read_field(path: Path) -> tuple[PointFunction, float]:
    """The function of points (n, 2) in physical units that a displacement field is, and its finer grid spacing.

    Raises:
        RegistrationError: not a field of flat vectors, too large, or not finite.
        MissingDependencyError: SimpleITK is not installed.
    """
    sitk = simpleitk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size, bands = reader.GetSize(), reader.GetNumberOfComponents()
        if bands < 2 or any(side != 1 for side in size[2:]) or len(size) < 2:
            raise RegistrationError(
                f"not a displacement field of a flat image: {' x '.join(map(str, size))} points of {bands} components",
                file=path,
            )
        if np.prod(size, dtype=np.int64) * bands > MAX_VALUES:
            raise RegistrationError(f"{' x '.join(map(str, size))} points are more than are read", file=path)
        image = reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RegistrationError(f"cannot be read as an image ({reason})", file=path) from error
    values = sitk.GetArrayFromImage(image).reshape(size[1], size[0], bands)[..., :2].astype(np.float64)
    if not np.isfinite(values).all():
        raise RegistrationError("holds displacements that are no finite numbers", file=path)
    dimensions = len(size)
    direction = np.array(image.GetDirection()).reshape(dimensions, dimensions)[:2, :2]
    spacing, origin = np.array(image.GetSpacing()[:2]), np.array(image.GetOrigin()[:2])
    if abs(np.linalg.det(direction)) < 1e-9:
        raise RegistrationError("lies across the plane of the section", file=path)
    return field(np.moveaxis(values, 2, 0), origin, spacing, direction), float(spacing.min())
