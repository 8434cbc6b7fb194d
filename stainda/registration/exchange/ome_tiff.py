"""The warped slide as pixels: a tiled pyramidal OME-TIFF, written tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError
from stainda.files import whole_file
from stainda.progress import SILENT, Progress
from stainda.registration.maps import PointMap
from stainda.registration.warping import picture_size, warped_tiles
from stainda.slides import Slide

TILE = 512
SMALLEST = 1024  # the pyramid ends where the longer side is at most this


def write_ome_tiff(
    mapping: PointMap,
    slide: Slide,
    path: Path,
    *,
    downsample: float = 1.0,
    mpp: float | None = None,
    compression: Literal["jpeg", "deflate"] = "jpeg",
    quality: int = 90,
    progress: Progress = SILENT,
) -> Path:
    """Write a section as it lies in the frame; every level is warped from the slide anew, so that no more than a few
    tiles are held in memory.

    Args:
        downsample: level-0 pixels of the frame per pixel of the finest level.
        mpp: micrometres per level-0 pixel of the **frame**, written as the physical pixel size; omitted where unknown.
        compression: ``jpeg`` at ``quality``, or ``deflate`` without loss.

    Raises:
        RegistrationError: the file's name is not that of an OME-TIFF.
        SlideError: the slide cannot be read.
    """
    import tifffile

    path = Path(path)
    if not path.name.lower().endswith((".ome.tif", ".ome.tiff")):
        raise RegistrationError("an OME-TIFF is named .ome.tif or .ome.tiff", file=path)
    scales = [downsample]
    while max(picture_size(mapping.frame_size, scales[-1])) > SMALLEST:
        scales.append(scales[-1] * 2)
    sizes = [picture_size(mapping.frame_size, scale) for scale in scales]
    options = {
        "tile": (TILE, TILE), "photometric": "rgb", "dtype": np.uint8,
        "compression": compression, "compressionargs": {"level": quality} if compression == "jpeg" else None,
    }  # fmt: skip
    metadata: dict[str, object] = {"axes": "YXS", "Name": mapping.slide}
    if mpp:
        metadata |= {
            "PhysicalSizeX": mpp * downsample, "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": mpp * downsample, "PhysicalSizeYUnit": "µm",
        }  # fmt: skip
    total = sum(-(-width // TILE) * -(-height // TILE) for width, height in sizes)
    with whole_file(path) as aside, progress.task(f"Warping {mapping.slide}", total) as task:

        def tiles(scale: float) -> Iterator[Array]:
            for _, _, part in warped_tiles(mapping, slide, (0, 0, *mapping.frame_size), scale, TILE):
                if part.shape[:2] != (TILE, TILE):
                    whole = np.full((TILE, TILE, 3), 255, np.uint8)
                    whole[: part.shape[0], : part.shape[1]] = part
                    part = whole
                task.advance(1)
                yield part

        with tifffile.TiffWriter(aside, bigtiff=True, ome=True) as writer:
            for number, (scale, (width, height)) in enumerate(zip(scales, sizes, strict=True)):
                first = {"metadata": metadata, "subifds": len(scales) - 1} if number == 0 else {"subfiletype": 1}
                resolution = (
                    {} if not mpp else {"resolution": (1e4 / (mpp * scale),) * 2, "resolutionunit": "CENTIMETER"}
                )
                writer.write(tiles(scale), shape=(height, width, 3), **options, **first, **resolution)
    return path
