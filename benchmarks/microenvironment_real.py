"""The classical cell detector on real immunostained fields: what it finds, and pictures to look at. There is no truth.

    python benchmarks/microenvironment_real.py FOLDER OUT [micrometres per pixel, default 0.5]

FOLDER has images of one stain each (``../shared/data/kidney_stains_hannover``: 1000 x 1000 pixels, human kidney, 16 is
CD68; the pixel size is not stated). OUT gets a picture of each with a circle about every cell.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from stainda.config.microenvironment import CellDetectionConfig
from stainda.microenvironment.cells import detect_cells
from stainda.slides import open_slide


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    mpp = float(sys.argv[3]) if len(sys.argv) > 3 else 0.5
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.png")):
        with open_slide(path, mpp=mpp) as slide:
            cells = detect_cells(slide, CellDetectionConfig())
            width, height = slide.size
        picture = Image.open(path).convert("RGB")
        pen = ImageDraw.Draw(picture)
        for (x, y), area in zip(cells.xy, cells.area_um2, strict=True):
            radius = np.sqrt(area / np.pi) / mpp + 3
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(255, 0, 0), width=2)
        picture.save(out / f"{path.stem}.jpg", quality=90)
        stained = float(cells.positive.mean()) if cells.positive is not None else float("nan")
        print(f"{path.name}: {len(cells)} cells, {len(cells) / (width * height * mpp**2) * 1e6:.0f} per mm2, "
              f"stained {stained:.3f}, {sum(cells.left_out.values())} areas too large for a cell")  # fmt: skip


if __name__ == "__main__":
    main()
