"""A slide whose scanned part begins elsewhere than the slide, as Leica's SCN files do."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from stainda.annotations import make_shapes

SIZE = (2224, 1568)
BOUNDS = (600, 400, 1024, 768)
MPP = 0.5
TISSUE, GLOMERULUS = (222, 170, 190), (118, 39, 128)
CENTRES = ((250, 200), (600, 420), (820, 250))  # of the glomeruli, pixels of the scanned part
RADIUS = 40


def scanned_picture() -> np.ndarray:
    """RGB uint8 of the scanned part: glass, tissue on it, and three glomeruli at :data:`CENTRES`."""
    width, height = BOUNDS[2:]
    picture = np.full((height, width, 3), 255, np.uint8)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    picture[60:700, 80:960] = TISSUE
    for cx, cy in CENTRES:
        picture[(x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 < RADIUS**2] = GLOMERULUS
    return picture


def write_scn(path: Path, picture: np.ndarray | None = None) -> Path:
    """A slide of :data:`SIZE` of which :data:`BOUNDS` were scanned, as OpenSlide's Leica reader takes it."""
    from stainda.phantom.scn import write_scn as write

    return write(path, scanned_picture() if picture is None else picture, SIZE, BOUNDS[:2], MPP)


def glomeruli(frame: str = "level0") -> gpd.GeoDataFrame:
    """The three glomeruli, in level-0 pixels or in those of the scanned part."""
    step = np.array(BOUNDS[:2]) if frame == "level0" else np.zeros(2)
    discs = [shapely.Point(*(np.array(centre) + step)).buffer(RADIUS - 4) for centre in CENTRES]
    return make_shapes(discs, "glomerulus", id=["one", "two", "three"])


def write_qupath(path: Path, frame: str = "bounds") -> Path:
    """The glomeruli as QuPath exports them: it does not say where its coordinates begin."""
    import json

    from stainda.annotations import write_geojson

    document = json.loads(write_geojson(glomeruli(frame), path).read_text())
    del document["stainda"]
    path.write_text(json.dumps(document))
    return path
