"""What is written of a slide: objects with their sizes for QuPath and as a table, the probability map, a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from stainda.arrays import Array
from stainda.files import whole_file, write_csv
from stainda.names import stem
from stainda.progress import SILENT, Progress

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

    from stainda.annotations import Origin
    from stainda.prediction.coarse import CoarseDetector
    from stainda.prediction.predictor import Predictor
    from stainda.slides import Slide

OBJECT_COLUMNS = (
    "slide", "id", "class", "score", "x", "y", "area_px2", "area_um2", "max_diameter_um", "equivalent_diameter_um",
)  # fmt: skip
"""Of the table of objects: the middle (x, y) in level-0 pixels; micrometres where the pixel size is known. Points have
no size."""

_LINE = (0, 190, 60)


@dataclass(frozen=True)
class Wanted:
    """What is to be written of a slide next to the objects.

    Attributes:
        maps: the probability map. overlay: a picture of the slide with the outlines.
        heat_maps: a picture of the most certain objects of a classifier of patches, with what decided.
        origin: where the coordinates of the GeoJSON begin: ``bounds`` at the scanned part, where a slide has one, as
            QuPath counts; ``level0`` at the slide's corner; ``auto`` as QuPath.
    """

    maps: bool = False
    overlay: bool = False
    origin: Origin = "auto"
    heat_maps: bool = False


@dataclass(frozen=True)
class SlidePrediction:
    """What was found on a slide and written.

    Attributes:
        file: the GeoJSON. files: all files, it among them.
        counts: objects by class.
        object_area, tissue_area: µm², ``None`` where the pixel size is not known.
        mpp: micrometres per level-0 pixel, and where that is from (``mpp_origin``).
        notes: how colours and batch statistics of this slide were obtained.
    """

    file: Path
    files: tuple[Path, ...]
    counts: dict[str, int]
    object_area: float | None
    tissue_area: float | None
    mpp: float | None
    mpp_origin: str
    notes: tuple[str, ...] = field(default=())

    @property
    def n_objects(self) -> int:
        return sum(self.counts.values())

    @property
    def density(self) -> float | None:
        """Objects per mm² of tissue."""
        return self.n_objects / self.tissue_area * 1e6 if self.tissue_area else None


def output_files(folder: Path, name: str, wanted: Wanted) -> dict[str, Path]:
    """The files of a slide below ``folder``, by kind."""
    files = {"objects": folder / f"{name}.geojson", "table": folder / "objects" / f"{name}.csv"}
    if wanted.maps:
        files["map"] = folder / "maps" / f"{name}.ome.tif"
    if wanted.overlay:
        files["overlay"] = folder / "overlays" / f"{name}.jpg"
    if wanted.heat_maps:
        files["heat_maps"] = folder / "heat_maps" / f"{name}.png"
    return files


def predict_slide(
    job: str | Path | Predictor,
    slide_path: str | Path,
    out: str | Path,
    *,
    mpp: float | None = None,
    domain: str | None = None,
    threshold: float | None = None,
    wanted: Wanted | None = None,
    name: str | None = None,
    properties: dict[str, Any] | None = None,
    coarse: CoarseDetector | None = None,
    progress: Progress = SILENT,
) -> SlidePrediction:
    """Find the objects of a slide and write them as GeoJSON that QuPath opens, and as a table.

    Args:
        job: a finished job's folder, or a predictor already loaded (for many slides).
        out: the folder that ``NAME.geojson``, ``objects/NAME.csv``, ``maps/NAME.ome.tif``, ``overlays/NAME.jpg`` and
            ``heat_maps/NAME.png`` go to.
        mpp: micrometres per level-0 pixel, where the slide does not tell.
        domain: the slide's domain, where the job was trained on it.
        threshold: in place of those fixed on source validation.
        name: of the slide's files; default that of the slide's file without its ending.
        properties: further properties of every object.
        coarse: a first detector, that says where to look; default everywhere on tissue.

    Raises:
        SlideError: the slide cannot be used, or shows no tissue.
        StaindaError: heat maps of a job that is no classifier of patches.
    """
    from stainda.annotations import bounds_of, write_geojson
    from stainda.prediction.heat_maps import check_heat_maps, collect_evidence, write_heat_maps
    from stainda.prediction.maps import write_map
    from stainda.prediction.predictor import Predictor, load_predictor
    from stainda.prediction.regions import no_tissue
    from stainda.slides import open_slide

    predictor = job if isinstance(job, Predictor) else load_predictor(job)
    wanted, name = wanted or Wanted(), name or stem(slide_path)
    files = output_files(Path(out), name, wanted)
    if wanted.heat_maps:
        check_heat_maps(predictor)
    with open_slide(slide_path, mpp) as slide:
        region = (
            predictor.region(slide)
            if coarse is None
            else coarse.region(predictor, slide, domain, stem(slide_path), progress)
        )
        if not region.has_tissue:
            raise no_tissue(slide.path)
        result = predictor.probabilities_region(region, domain, stem(slide_path), slide.mpp, progress)
        shapes = predictor.objects(result, threshold)
        tissue = None if slide.mpp is None else region.tissue_area * slide.mpp**2
        if wanted.maps:
            write_map(result, files["map"])
        if wanted.overlay:
            write_overlay(slide, shapes, files["overlay"])
        if wanted.heat_maps:
            evidence = collect_evidence(predictor, region, result, shapes, domain, stem(slide_path))
            per_pixel = None if slide.mpp is None else slide.mpp * region.downsample
            write_heat_maps(evidence, files["heat_maps"], f"{name}: what decided", per_pixel)
        bounds = None if wanted.origin == "level0" else bounds_of(slide)
        mpp, mpp_origin = slide.mpp, slide.mpp_origin
    sizes = measure(shapes, mpp)
    limits = predictor.thresholds if threshold is None else dict.fromkeys(result.classes, threshold)
    about = {"job": predictor.name, "batch_statistics": result.notes[-1], **(properties or {})}
    shapes["properties"] = [
        {**about, "threshold": limits[cls], "measurements": sizes.named(index)}
        for index, cls in enumerate(shapes["class"])
    ]
    shapes["source_slide"] = name
    write_csv(files["table"], _rows(name, shapes, sizes), OBJECT_COLUMNS)
    write_geojson(shapes, files["objects"], bounds=bounds)  # the last: where it is there, so is the rest
    counts = {cls: int((shapes["class"] == cls).sum()) for cls in result.classes}
    area = None if mpp is None else float(sizes.area.sum()) * mpp**2
    notes = (*filter(None, (region.note,)), *result.notes)
    return SlidePrediction(files["objects"], tuple(files.values()), counts, area, tissue, mpp, mpp_origin, notes)


@dataclass(frozen=True)
class Sizes:
    """Of shapes: area (level-0 pixels squared) and largest diameter (level-0 pixels), ``(n,)``; the slide's ``mpp``."""

    area: Array
    longest: Array
    mpp: float | None

    @property
    def equivalent(self) -> Array:
        """Diameters of discs of the same areas, level-0 pixels."""
        return np.sqrt(4 * self.area / np.pi)

    def named(self, index: int) -> dict[str, float]:
        """The sizes of one shape under the names that QuPath gives them, in µm where they can be known."""
        if self.area[index] == 0:  # a point
            return {}
        unit, scale = ("px", 1.0) if self.mpp is None else ("µm", self.mpp)
        return {
            f"Area {unit}^2": float(self.area[index] * scale**2),
            f"Max diameter {unit}": float(self.longest[index] * scale),
            f"Equivalent diameter {unit}": float(self.equivalent[index] * scale),
        }


def measure(shapes: gpd.GeoDataFrame, mpp: float | None) -> Sizes:
    """The sizes of shapes in level-0 pixels; the largest diameter is that between two points of the outline."""
    geometries = np.asarray(shapes.geometry.values, object)
    return Sizes(shapely.area(geometries), np.asarray([_longest(geometry) for geometry in geometries], float), mpp)


def _longest(geometry: BaseGeometry) -> float:
    from scipy.spatial.distance import pdist

    corners = shapely.get_coordinates(shapely.convex_hull(geometry))
    if len(corners) > 2000:  # the farthest pair of so many corners is that of the ones on an even choice of directions
        angles = np.linspace(0, np.pi, 1000, endpoint=False)
        along = corners @ np.stack([np.cos(angles), np.sin(angles)])
        return float((along.max(0) - along.min(0)).max())
    return float(pdist(corners).max()) if len(corners) > 1 else 0.0


def _rows(name: str, shapes: gpd.GeoDataFrame, sizes: Sizes) -> list[dict[str, Any]]:
    centres = shapely.get_coordinates(shapely.centroid(np.asarray(shapes.geometry.values, object)))

    def um(values: Array, index: int, power: int = 1) -> float | None:
        if sizes.mpp is None or sizes.area[index] == 0:
            return None
        return round(float(values[index]) * sizes.mpp**power, 3)

    return [
        {
            "slide": name, "id": row["id"], "class": row["class"], "score": round(float(row["score"]), 4),
            "x": round(float(centres[index, 0]), 2), "y": round(float(centres[index, 1]), 2),
            "area_px2": round(float(sizes.area[index]), 2) or None, "area_um2": um(sizes.area, index, 2),
            "max_diameter_um": um(sizes.longest, index), "equivalent_diameter_um": um(sizes.equivalent, index),
        }
        for index, row in enumerate(shapes[["id", "class", "score"]].to_dict("records"))
    ]  # fmt: skip


def write_overlay(slide: Slide, shapes: gpd.GeoDataFrame, path: Path, max_dim: int = 2048) -> Path:
    """A JPEG of the slide, at most ``max_dim`` pixels, with the outlines of the shapes (level-0 pixels)."""
    from PIL import Image, ImageDraw

    thumbnail, downsample = slide.thumbnail(max_dim)
    picture = Image.fromarray(thumbnail)
    pen = ImageDraw.Draw(picture)
    to_picture: Callable[[Array], Array] = lambda xy: xy / downsample - 0.5  # noqa: E731
    for x, y in to_picture(shapely.get_coordinates(shapes.geometry[shapes.geometry.geom_type == "Point"])):
        pen.ellipse([float(x) - 3, float(y) - 3, float(x) + 3, float(y) + 3], outline=_LINE, width=2)
    for geometry in shapes.geometry[shapes.geometry.geom_type != "Point"]:
        for ring in shapely.get_rings(shapely.get_parts(geometry)):
            points = to_picture(shapely.get_coordinates(ring))
            pen.line([(float(x), float(y)) for x, y in points], fill=_LINE, width=3)
    with whole_file(path) as aside:
        picture.save(aside, format="JPEG", quality=90)
    return path
