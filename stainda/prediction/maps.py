"""Probability maps as OME-TIFF, a channel per class, tiled, with a pyramid: for QuPath, OpenSlide and tifffile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stainda.arrays import Array
from stainda.files import whole_file
from stainda.prediction.objects import ProbabilityMap
from stainda.prediction.scratch import give_back, scratch

TILE = 256
SMALLEST = 512
"""Longest side of a picture that needs no smaller one."""


def write_map(probability_map: ProbabilityMap, path: str | Path) -> Path:
    """Write a map: uint8, 255 times the probability, rounded.

    The first pixel begins at (``found.x``, ``found.y``) of the slide; the pixel size is the slide's times
    ``found.downsample``, where it is known. Memory does not grow with the map.
    """
    import tifffile

    levels = [_as_bytes(probability_map.array)]
    while max(levels[-1].shape[1:]) > SMALLEST:
        levels.append(_halved(levels[-1]))
    micrometres = None if probability_map.mpp is None else probability_map.mpp * probability_map.downsample
    metadata: dict[str, object] = {
        "axes": "CYX", "Channel": {"Name": list(probability_map.classes)},
        "Description": f"255 x probability; pixels of {probability_map.downsample:g} level-0 pixels of the slide",
    }  # fmt: skip
    options: dict[str, object] = {"photometric": "minisblack", "tile": (TILE, TILE), "compression": "zlib"}
    with whole_file(path) as aside, tifffile.TiffWriter(aside, bigtiff=levels[0].size > 2**31, ome=True) as file:
        for number, level in enumerate(levels):
            size = None if micrometres is None else micrometres * levels[0].shape[2] / level.shape[2]
            if size is not None:
                options |= {"resolution": (1e4 / size, 1e4 / size), "resolutionunit": "CENTIMETER"}
            if number == 0 and size is not None:
                metadata |= {"PhysicalSizeX": size, "PhysicalSizeXUnit": "µm"}
                metadata |= {"PhysicalSizeY": size, "PhysicalSizeYUnit": "µm"}
            first = {"subifds": len(levels) - 1, "metadata": metadata} if number == 0 else {"subfiletype": 1}
            file.write(_tiles(level), shape=level.shape, dtype=level.dtype, **options, **first)
    return Path(path)


def _tiles(level: Array) -> Iterator[Array]:
    for channel in level:
        for top in range(0, level.shape[1], TILE):
            for left in range(0, level.shape[2], TILE):
                tile = np.zeros((TILE, TILE), np.uint8)
                part = channel[top : top + TILE, left : left + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                yield tile


def _as_bytes(array: Array) -> Array:
    out = scratch(array.shape, np.uint8)
    for top in range(0, array.shape[1], TILE):
        rows = np.asarray(array[:, top : top + TILE], np.float32)
        out[:, top : top + TILE] = np.rint(np.clip(rows, 0, 1) * 255)
        give_back(array)
        give_back(out)
    return out


def _halved(level: Array) -> Array:
    """Means of 2 × 2 pixels; the last row or column of an odd number counts twice."""
    channels, height, width = level.shape
    out = scratch((channels, -(-height // 2), -(-width // 2)), np.uint8)
    for top in range(0, height, 2 * TILE):
        rows = np.asarray(level[:, top : top + 2 * TILE], np.float32)
        rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2), (0, width % 2)), mode="edge")
        means = (rows[:, ::2, ::2] + rows[:, 1::2, ::2] + rows[:, ::2, 1::2] + rows[:, 1::2, 1::2]) / 4
        out[:, top // 2 : top // 2 + means.shape[1]] = np.rint(means)
        give_back(level)
        give_back(out)
    return out
