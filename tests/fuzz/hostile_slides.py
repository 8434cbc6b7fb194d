"""Slides with changed headers: made ones of every kind that is read, and the real samples where they are here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from hostile_files import NUMBERS, TOKENS, Case
from PIL import Image

from stainda.slides import open_slide

DATA = Path(os.environ.get("STAINDA_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SAMPLES = DATA / "wsi_reader_samples"
LARGE = 100_000
"""Bytes from which on only the header of a file is changed, and its pixels are seen in part."""
HEAD = 2048
"""Bytes of the header of a file that is no TIFF."""


def _texture(height: int = 96, width: int = 128) -> np.ndarray:
    image = np.random.default_rng(1).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return image.repeat(8, axis=0).repeat(8, axis=1)


def _tiff(path: Path, compression: str | None = "jpeg", **options: object) -> Path:
    """A pyramid of three levels, tiled."""
    image, apart = _texture(), options.get("planarconfig") == "separate"
    with tifffile.TiffWriter(path, bigtiff=bool(options.pop("bigtiff", False))) as writer:
        shared = {"tile": (32, 32), "photometric": "rgb", "compression": compression, "metadata": None, **options}
        for step in (1, 2, 4):
            level = image[::step, ::step]
            writer.write(np.moveaxis(level, 2, 0) if apart else level, subfiletype=int(step > 1), **shared)
    return path


def _strips(path: Path, compression: str | None) -> Path:
    tifffile.imwrite(path, _texture(), photometric="rgb", compression=compression, rowsperstrip=16, metadata=None)
    return path


def _ome(path: Path) -> Path:
    about = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(_texture(), subifds=1, tile=(32, 32), photometric="rgb", metadata=about)
        writer.write(_texture()[::2, ::2], subfiletype=1, tile=(32, 32), photometric="rgb")
    return path


def _picture(path: Path) -> Path:
    Image.fromarray(_texture()).save(path)
    return path


MADE: dict[str, Callable[[Path], Path]] = {
    "jpeg tiles.tif": _tiff,
    "large offsets.tif": partial(_tiff, compression="deflate", bigtiff=True),
    "planes apart.tif": partial(_tiff, compression="lzw", planarconfig="separate"),
    "jpeg 2000 tiles.tif": partial(_tiff, compression="jpeg2000"),
    "webp tiles.tif": partial(_tiff, compression="webp"),
    "strips.tif": partial(_strips, compression="packbits"),
    "zstd strips.tif": partial(_strips, compression="zstd"),
    "pyramid.ome.tif": _ome,
    **{f"picture.{suffix}": _picture for suffix in ("png", "jpg", "webp", "bmp", "jp2", "ppm")},
}


def look_through(path: Path) -> None:
    """A corner and the middle of every level, and the whole where that is not for long."""
    with open_slide(path) as slide:
        for number, level in enumerate(slide.levels):
            slide.read(0, 0, 32, 32, number)
            slide.read(slide.size[0] / 2, slide.size[1] / 2, 32, 32, number)
            assert level.width > 0 and level.height > 0
        if path.stat().st_size < LARGE or max(slide.size) > LARGE:
            slide.thumbnail(64)


def header(path: Path) -> list[int]:
    """Bytes of a large file that say what is in it: of a TIFF its directories and the beginnings of their values."""
    places = list(range(16))
    try:
        with tifffile.TiffFile(path) as file:
            for page in file.pages:
                places += range(page.offset, page.offset + 20 * len(page.tags) + 10)
                for tag in page.tags.values():
                    places += range(tag.valueoffset, tag.valueoffset + 32)
    except tifffile.TiffFileError:
        places += range(16, HEAD)
    return [place for place in sorted(set(places)) if place < path.stat().st_size]


def _made(name: str) -> Case:
    tokens = (*NUMBERS, *TOKENS[:8])
    return Case(f"slide {name}", lambda folder: MADE[name](folder / name), look_through, tokens)


def _sample(sample: Path) -> Case:
    def make(folder: Path) -> Path:
        for other in sample.parent.glob("boxes_*.dcm") if sample.suffix == ".dcm" else ():  # levels of one slide
            shutil.copy(other, folder / other.name)
        return Path(shutil.copy(sample, folder / sample.name))

    large = sample.stat().st_size > LARGE
    return Case(
        f"sample {sample.name}", make, look_through, (*NUMBERS, *TOKENS[:8]), header if large else None,
        share=0.2 if large else 1, refused=True,
    )  # fmt: skip


CASES = [_made(name) for name in MADE]
CASES += [_sample(path) for path in sorted(SAMPLES.glob("*/*")) if path.name != "broken.svs"]
