"""Annotation files of several annotators of one slide: read, fused and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from stainda.annotations.annotators import ANNOTATOR_COLUMNS, PAIR_COLUMNS, annotator_names
from stainda.annotations.classes import IGNORE, ClassMap
from stainda.annotations.formats.frame import SlideFrame
from stainda.annotations.frames import Bounds, Origin
from stainda.annotations.fusion import NOTE_COLUMNS, Fusion, Rules, fuse_annotators
from stainda.annotations.geojson_writing import write_geojson
from stainda.annotations.loading import load_any
from stainda.annotations.overlay import only_areas
from stainda.annotations.shapes import join_shapes
from stainda.errors import AnnotationError
from stainda.files import write_csv
from stainda.names import ending, stem
from stainda.progress import SILENT, Progress

if TYPE_CHECKING:
    import geopandas as gpd


def fuse_files(
    paths: Sequence[str | Path],
    slide: SlideFrame | None = None,
    rules: Rules | None = None,
    classes: ClassMap | None = None,
    *,
    apart: bool = False,
    origin: Origin = "auto",
    progress: Progress = SILENT,
) -> tuple[Fusion, list[dict[str, str]]]:
    """Fuse files of any format that the loader reads, one per annotator.

    Args:
        slide: the open slide, or what is known of it; some formats need it, and without it positions are not checked.
        classes: new names of classes, before anything is compared.
        apart: accept an annotator whose shapes all lie away from those of all others. Else that is taken for a file of
            another slide.
        origin: where the coordinates of the files begin, see :func:`stainda.annotations.load_shapes`.

    Returns:
        What was fused, and a row per shape that had to be mended or dropped before (``annotator`` and the columns of
        :data:`stainda.annotations.REPAIR_COLUMNS`).

    Raises:
        AnnotationError: a file cannot be read, is named twice or seems to be of another slide; no shapes at all.
    """
    names = annotator_names(paths)
    drawn: dict[str, gpd.GeoDataFrame] = {}
    changes: list[dict[str, str]] = []
    for name, path in zip(names, map(Path, paths), strict=True):
        records, rows = load_any(path, slide, None, classes, origin)
        drawn[name] = records.table()
        changes += [{"annotator": name, **row} for row in rows]
        dropped = [row["reason"] for row in rows if row["action"] == "dropped"]
        if dropped and not len(drawn[name]) and set(dropped) == {"outside the slide"}:
            raise AnnotationError(
                f"all of its {len(dropped)} shapes lie outside the slide",
                file=path,
                remedy="It seems to be of another slide: check the file and --slide",
            )
    if not apart:
        _refuse_strangers(drawn, dict(zip(names, map(Path, paths), strict=True)))
    return fuse_annotators(drawn, rules, size=None if slide is None else slide.size, progress=progress), changes


def _refuse_strangers(drawn: Mapping[str, gpd.GeoDataFrame], paths: Mapping[str, Path]) -> None:
    """Refuse an annotator whose extent meets that of no other, where more than one drew anything."""
    extents = {name: shapely.box(*shapes.total_bounds) for name, shapes in drawn.items() if len(shapes)}
    for name, extent in extents.items():
        others = [other for label, other in extents.items() if label != name]
        if others and not np.any(shapely.intersects(extent, others)):
            where = ", ".join(f"{value:.0f}" for value in extent.bounds)
            raise AnnotationError(
                f"its shapes (x, y from {where}) lie away from those of every other annotator",
                file=paths[name],
                remedy="It seems to be of another slide; if it is not, say so with --apart",
            )


def with_ignored(fusion: Fusion, share: float) -> gpd.GeoDataFrame:
    """The fused shapes, and as :data:`IGNORE` what at least a share of the annotators drew without winning.

    So that a tie teaches neither object nor background. What was fused is cut out: it stays what it is.
    """
    import geopandas as gpd

    support = np.array([row["measurements"]["support"] for row in fusion.dissent["properties"]], float)
    voters = np.array([row["measurements"]["annotators"] for row in fusion.dissent["properties"]], float)
    doubtful = fusion.dissent[(support >= share * voters) & (fusion.dissent["class"] != IGNORE).to_numpy(bool)].copy()
    if not len(doubtful):
        return fusion.shapes
    kept = np.asarray(fusion.shapes.geometry.values, object)
    rest = [only_areas(geometry) for geometry in shapely.difference(doubtful.geometry.values, shapely.union_all(kept))]
    doubtful = doubtful.set_geometry(gpd.GeoSeries(rest, index=doubtful.index))
    doubtful["class"] = IGNORE
    return join_shapes([fusion.shapes, doubtful[doubtful.area > 0]])


def write_fusion(fusion: Fusion, out: str | Path, bounds: Bounds | None = None) -> dict[str, Path]:
    """Write the fused GeoJSON, and next to it ``*_dissent.geojson``, ``*_annotators.csv``, ``*_agreement.csv``.

    Where something could not take part, ``*_notes.csv`` says what.

    Args:
        bounds: the scanned part of the slide, for QuPath: see :func:`stainda.annotations.write_geojson`.

    Raises:
        AnnotationError: ``out`` is not named as GeoJSON.
    """
    out = check_out(out)

    def table(word: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Path:
        return write_csv(out.with_name(f"{stem(out)}_{word}.csv"), rows, columns)

    written = {
        "fused": write_geojson(fusion.shapes, out, bounds=bounds),
        "dissent": write_geojson(fusion.dissent, out.with_name(f"{stem(out)}_dissent.geojson"), bounds=bounds),
        "annotators": table("annotators", fusion.annotators, ANNOTATOR_COLUMNS),
        "agreement": table("agreement", fusion.agreement, PAIR_COLUMNS),
    }
    if fusion.notes:
        written["notes"] = table("notes", fusion.notes, NOTE_COLUMNS)
    return written


def check_out(out: str | Path) -> Path:
    """The path that fused shapes shall be written to.

    Raises:
        AnnotationError: it is not named as GeoJSON.
    """
    out = Path(out)
    if ending(out) not in (".geojson", ".json"):
        raise AnnotationError(
            "fused shapes are written as GeoJSON",
            file=out,
            remedy=f"Write {stem(out)}.geojson, then convert it with stainda annotations convert",
        )
    return out
