"""Pixel size from the metadata of a file, where it is plausible."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from stainda.slides.backend import PixelSize

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# 0.01 µm is far below the diffraction limit; above 10 µm are screen and print resolutions (72, 96, 300, 600, 1200 dpi
# are 353, 265, 85, 42, 21 µm), which image programs write into any file
PLAUSIBLE_MPP = (0.01, 10.0)

_MICROMETRES = {
    "m": 1e6, "cm": 1e4, "centimeter": 1e4, "mm": 1e3, "millimeter": 1e3, "µm": 1.0, "um": 1.0, "micron": 1.0,
    "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "nm": 1e-3, "nanometer": 1e-3, "inch": 25_400.0,
    "in": 25_400.0,
}  # fmt: skip


def micrometres(unit: str) -> float | None:
    """A unit of length in µm, ``None`` for pixels and what is no length; both letters for micro are known."""
    return _MICROMETRES.get(unit.strip().strip('"').replace("\N{GREEK SMALL LETTER MU}", "µ").lower())


def believable(mpp_x: float | None, mpp_y: float | None, origin: str) -> PixelSize:
    """The mean of both directions where they are plausible and agree within 5 %, else unknown with the reason."""
    values = [value for value in (mpp_x, mpp_y) if value is not None and math.isfinite(value) and value > 0]
    if not values:
        return PixelSize(None, f"{origin} tells none")
    low, high = PLAUSIBLE_MPP
    if not all(low <= value <= high for value in values):
        dpi = 25400 / values[0]
        return PixelSize(None, f"{origin} tells {values[0]:.4g} µm ({dpi:.4g} dpi), which no microscope scans at")
    if max(values) > 1.05 * min(values):
        return PixelSize(None, f"{origin} tells pixels that are not square ({values[0]:.4g} x {values[1]:.4g} µm)")
    return PixelSize(sum(values) / len(values), origin)


def from_resolution(per_unit_x: float | None, per_unit_y: float | None, unit_um: float, origin: str) -> PixelSize:
    """The pixel size from pixels per unit; ``unit_um`` is the unit in µm (25 400 for inch, 10 000 for cm)."""

    def mpp(per_unit: float | None) -> float | None:
        return unit_um / per_unit if per_unit is not None and math.isfinite(per_unit) and per_unit > 0 else None

    return believable(mpp(per_unit_x), mpp(per_unit_y), origin)


def from_ome(text: str | None, size: tuple[int, int], image: int | None = None) -> PixelSize:
    """From the OME ``Pixels`` element of one picture; entities and DTDs in the XML are refused by the parser.

    Args:
        size, image: see :func:`ome_pixels`.
    """
    import defusedxml.ElementTree as ElementTree

    if not text:
        return PixelSize(None, "the OME-XML is empty")
    try:
        root = ElementTree.fromstring(text)
    except Exception as error:  # a parse error, or one of defusedxml's refusals
        return PixelSize(None, f"the OME-XML cannot be read ({error})")
    pixels = ome_pixels(root, size, image)
    if pixels is None:
        return PixelSize(None, "the OME-XML tells none")
    sizes = []
    for axis in "XY":
        factor = micrometres(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        try:
            sizes.append(float(pixels.get(f"PhysicalSize{axis}", "nan")) * (factor or math.nan))
        except ValueError:
            sizes.append(math.nan)
    return believable(sizes[0], sizes[1], "the OME-XML")


def ome_pixels(root: Element, size: tuple[int, int], image: int | None = None) -> Element | None:
    """The ``Pixels`` element of one picture of several: a file may hold a slide's overview before its scan.

    Args:
        size: width and height of the picture, pixels. Where one element alone has it, that is the picture's.
        image: which of the pictures it is, from 0; ``None``: not known.

    Returns:
        The element; ``None`` where the file does not say which it is.
    """
    every = [element for element in root.iter() if element.tag.rsplit("}", 1)[-1] == "Pixels"]
    wanted = tuple(map(str, size))
    fitting = [element for element in every if (element.get("SizeX"), element.get("SizeY")) == wanted]
    if len(fitting) == 1 or len(every) == 1:
        return (fitting or every)[0]
    return every[image] if image is not None and image < len(every) else None


def from_aperio(description: str) -> PixelSize:
    """From the ``MPP`` of an Aperio description."""
    for part in description.split("|"):
        key, _, value = part.partition("=")
        if key.strip() == "MPP":
            try:
                return believable(float(value), float(value), "the Aperio header")
            except ValueError:
                break
    return PixelSize(None, "the Aperio header tells none")


def from_imagej(description: str, per_unit_x: float | None, per_unit_y: float | None) -> PixelSize:
    """ImageJ writes pixels per unit into the TIFF tags and the unit, whatever it is, as ``unit=`` into the text.

    ``µ`` may be written as ``\\u00B5``; ``yunit=`` stands there only where it is another one than ``unit=``.
    """
    fields = dict(re.findall(r"^(unit|yunit)=(.*?)\s*$", description, flags=re.MULTILINE))
    units = [re.sub(r"\\u([0-9A-Fa-f]{4})", lambda code: chr(int(code[1], 16)), field) for field in fields.values()]
    factors = {micrometres(unit) for unit in units}
    factor = factors.pop() if len(factors) == 1 else None
    if factor is None:
        return PixelSize(None, f"ImageJ tells the unit {' and '.join(units)!r}, which is no length")
    return from_resolution(per_unit_x, per_unit_y, factor, "the ImageJ header")
