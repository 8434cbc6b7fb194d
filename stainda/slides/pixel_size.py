"""The pixel size a file tells, where it can be believed."""

from __future__ import annotations

import math

from stainda.slides.slide import PixelSize

# 0.01 µm is far below the diffraction limit; above 10 µm are screen and print resolutions (72, 96, 300, 600, 1200 dpi
# are 353, 265, 85, 42, 21 µm), which image programs write into any file
PLAUSIBLE_MPP = (0.01, 10.0)


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
