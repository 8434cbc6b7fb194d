"""A field of view of each section, for looking at: where annotations are dense, at the scale the network sees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from PIL import Image

from stainda.cohort import Cohort
from stainda.config import PatchConfig
from stainda.files import whole_file, write_text
from stainda.names import file_name
from stainda.patches.inputs import inputs_key
from stainda.patches.pixels import working_downsample
from stainda.progress import SILENT, Progress
from stainda.run_directory.contents import FIELD_INPUTS
from stainda.run_directory.tables import FIELDS
from stainda.slides import Slide, open_slide, tissue_mask


def write_fields(
    cohort: Cohort,
    config: PatchConfig,
    shapes_own: Mapping[str, gpd.GeoDataFrame],
    out: str | Path,
    size: int = 512,
    progress: Progress = SILENT,
) -> Path:
    """Write ``<slide>.jpg`` of every section and ``fields.csv``, for the galleries of the report.

    Nothing is done where all of it is there already, made from the same inputs.

    Args:
        shapes_own: own annotations by slide; the field holds as much of their area as one can. Without them it holds
            as much tissue as one can.
        out: folder to write to (``fields`` of the run directory).
        size: at most so many pixels wide and high, at the working scale; less where the slide is smaller.

    Returns:
        ``fields.csv``: slide, x, y (level-0 pixels, upper left corner), width, height (pixels of the picture),
        downsample (level-0 pixels per pixel).

    Raises:
        SlideError: a slide cannot be read, or its mpp is requested and not known.
    """
    folder = Path(out)
    key = inputs_key(cohort, {"own": shapes_own}, {**config.model_dump(), "field": size})
    table, marker = FIELDS.inside(folder), FIELD_INPUTS.inside(folder)
    if table.is_file() and marker.is_file() and marker.read_text(encoding="utf-8") == key:
        return table
    rows = []
    with progress.task("Saving fields of view", len(cohort)) as bar:
        for section in cohort:
            with open_slide(section.path, section.mpp) as slide:
                downsample = working_downsample(slide, config, section.slide)
                width, height = (min(size, max(1, int(side / downsample))) for side in slide.size)
                x, y = _place(slide, shapes_own.get(section.slide), width * downsample, height * downsample)
                image = slide.read_scaled(x, y, width, height, downsample)
            with whole_file(folder / f"{file_name(section.slide)}.jpg") as aside:
                Image.fromarray(image).save(aside, quality=90)
            values = (section.slide, x, y, width, height, downsample)
            rows.append(dict(zip(FIELDS.names, values, strict=True)))
            bar.advance(note=section.slide)
    FIELDS.write(folder, rows)
    write_text(marker, key)
    return table


def _place(slide: Slide, shapes: gpd.GeoDataFrame | None, width: float, height: float) -> tuple[float, float]:
    """Upper left corner, level-0 pixels, of the window that holds most annotated area, or else most tissue."""
    limit = np.maximum(np.array(slide.size, float) - (width, height), 0)
    drawn = (
        []
        if shapes is None
        else [geometry for geometry in shapes.geometry.values if geometry is not None and not geometry.is_empty]
    )
    if drawn:
        centres = np.array([shape.centroid.coords[0] for shape in drawn])
        corners = np.clip(np.round(centres - (width / 2, height / 2)), 0, limit)
        tree = shapely.STRtree(drawn)
        areas = np.array([max(shape.area, 1.0) for shape in drawn])
        held = [
            areas[tree.query(shapely.box(x, y, x + width, y + height), predicate="contains")].sum() for x, y in corners
        ]
        x, y = corners[int(np.argmax(held))]
        return float(x), float(y)
    xs, ys = (np.unique(np.round(np.linspace(0, most, 17))) for most in limit)
    corners = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
    shares = tissue_mask(slide).share(np.concatenate([corners, np.add(corners, (width, height))], axis=1))
    x, y = corners[int(np.argmax(shares))]
    return float(x), float(y)
