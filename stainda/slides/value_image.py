"""Values on a coarse grid of a slide as an image that QuPath opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stainda.arrays import Array
from stainda.files import whole_file


def write_value_image(values: Array, side_um: float, description: str, path: str | Path) -> Path:
    """Write values (rows, columns) as OME-TIFF, float32; what is not known (``nan``) is 0.

    Args:
        side_um: of a square of the grid.
    """
    import tifffile

    metadata = {
        "axes": "YX", "PhysicalSizeX": side_um, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": side_um,
        "PhysicalSizeYUnit": "µm", "Description": description,
    }  # fmt: skip
    with whole_file(path) as aside:
        tifffile.imwrite(aside, np.nan_to_num(values).astype(np.float32), ome=True, metadata=metadata)
    return Path(path)
