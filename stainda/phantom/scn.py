"""Writing a Leica SCN file: a slide of which only a part was scanned, which OpenSlide reports as bounds."""

from __future__ import annotations

from pathlib import Path

import tifffile

from stainda.arrays import Array
from stainda.files import whole_file

_SCN = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection name="phantom" sizeX="{0}" sizeY="{1}">
<image name="scan"><creationDate>2020-01-01T00:00:00Z</creationDate><device model="phantom" version="1"/>
<pixels sizeX="{4}" sizeY="{5}"><dimension sizeX="{4}" sizeY="{5}" r="0" ifd="0"/></pixels>
<view sizeX="{6}" sizeY="{7}" offsetX="{2}" offsetY="{3}"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><numericalAperture>0.5</numericalAperture><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image></collection></scn>"""


def write_scn(path: str | Path, pixels: Array, size: tuple[int, int], corner: tuple[int, int], mpp: float) -> Path:
    """Write a slide of one level, losslessly; what was not scanned is transparent, and read as white.

    Args:
        pixels: uint8 RGB (h, w, 3), what was scanned.
        size: (width, height) of the slide, level-0 pixels. corner: (x, y) of the scanned part on it.
        mpp: micrometres per pixel; the file counts in whole nanometres.
    """
    height, width = pixels.shape[:2]
    nm = round(1000 * mpp)
    numbers = (*size, *corner)
    text = _SCN.format(*(number * nm for number in numbers), width, height, width * nm, height * nm)
    dots = 1e7 / nm
    with whole_file(path) as aside:
        tifffile.imwrite(
            aside, pixels, bigtiff=True, tile=(256, 256), photometric="rgb", description=text, metadata=None,
            compression="deflate", resolution=(dots, dots), resolutionunit="CENTIMETER",
        )  # fmt: skip
    return Path(path)
