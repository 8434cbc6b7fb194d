"""Example fields with the outlines of what was there and what was found, as SVG over the photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pandas as pd
import shapely

from stainda.annotations import IGNORE_CLASSES
from stainda.evaluation import match_objects
from stainda.evaluation.analysis import Analysis
from stainda.evaluation.groups import contenders, with_few
from stainda.evaluation.selection import DEFAULT_RULE, REFIT
from stainda.evaluation.summary import ALL_TARGETS
from stainda.names import file_name
from stainda.report.drawings import picture
from stainda.report.run import LoadedRun
from stainda.report.summary_text import count, headline
from stainda.run_directory.tables import FIELDS

FATES = ("truth", "hit", "missed", "false")
OUTLINES = (
    "path{fill:none;vector-effect:non-scaling-stroke;stroke-linejoin:round}"
    "path.under{stroke:#fff;stroke-width:3.6;stroke-opacity:.75}"
    "path.truth{stroke:#111;stroke-width:1.3;stroke-dasharray:2 2}"
    "path.hit{stroke:#009e73;stroke-width:2.2}"
    "path.missed{stroke:#e69f00;stroke-width:2.4;stroke-dasharray:6 3}"
    "path.false{stroke:#d4008f;stroke-width:2.2;stroke-dasharray:1.5 2.5;stroke-linecap:round}"
)
"""Outlines are distinguished by colour and by dash; on white they stand out from any stain."""
MOST_DOMAINS, MOST_STRATEGIES = 12, 5
POINT_RADIUS = 5.0
"""Of the ring that a point is drawn as, pixels of the shown image."""


@dataclass(frozen=True)
class Panel:
    """One strategy on one field: SVG path data by fate, and the counts in the field."""

    strategy: str
    title: str
    paths: dict[str, str]
    text: str
    score: str


@dataclass(frozen=True)
class Field:
    """A field of one slide with a panel per strategy."""

    slide: str
    domain: str
    role: str
    image: str
    width: int
    height: int
    panels: tuple[Panel, ...]

    @property
    def file(self) -> str:
        """Name of the figure's file, from the slide's: one for each slide."""
        return f"example_{file_name(self.slide)}"


@dataclass(frozen=True)
class Gallery:
    fields: tuple[Field, ...]
    note: str
    skipped: tuple[str, ...]


def make_gallery(run: LoadedRun, analysis: Analysis, size: int = 420) -> Gallery:
    """One test slide per domain: the one whose Dice under the best strategy is the median of its domain."""
    if run.fields.empty:
        return Gallery((), run.missing[FIELDS.path], ())
    strategies = shown_strategies(run, analysis)
    jobs = {name: job for name in strategies if (job := job_of(run, analysis, name))}
    places = run.fields.drop_duplicates("slide").set_index("slide")
    fields: list[Field] = []
    skipped: list[str] = []
    roles = (
        run.cohort.drop_duplicates("domain").set_index("domain")["role"] if len(run.cohort) else pd.Series(dtype=str)
    )
    for domain in [*analysis.sources, *analysis.targets][:MOST_DOMAINS]:
        slide = _median_slide(run, domain, jobs, places)
        if slide is None:
            skipped.append(f"{domain}: no test slide with a field and predictions")
            continue
        image = run.path(f"fields/{file_name(slide)}.jpg")
        if image is None:
            skipped.append(f"{domain}: fields/{file_name(slide)}.jpg is missing")
            continue
        fields.append(
            _field(run, slide, domain, str(roles.get(domain, "")), image, place=places.loc[slide], jobs=jobs, size=size)
        )
    hidden = len(analysis.sources) + len(analysis.targets) - MOST_DOMAINS
    if hidden > 0:
        skipped.append(f"{hidden} more domains are not shown here")
    rest = len(set(run.records["strategy"])) - len(strategies)
    note = f"Not shown here: {count(rest, 'strategy')}; predictions of all are in jobs/." if rest > 0 else ""
    return Gallery(tuple(fields), note, tuple(skipped))


def shown_strategies(run: LoadedRun, analysis: Analysis) -> list[str]:
    """The baseline, the best without target labels, the next best, those with a few of them, and the ceiling."""
    rows = headline(analysis.results)
    rows = rows[(rows["domain"] == ALL_TARGETS) & np.isfinite(rows["mean"])].sort_values("mean", ascending=False)
    ranked = [*contenders(run.study, rows["strategy"]), *with_few(run.study, rows["strategy"])]
    between = [name for name in ranked if name != run.study.baseline][: MOST_STRATEGIES - 2]
    wanted = [run.study.baseline, *between, run.study.ceiling]
    result = [name for name in wanted if name in set(rows["strategy"])]
    order = [strategy.name for strategy in run.study.strategies]
    return sorted(dict.fromkeys(result), key=lambda name: order.index(name) if name in order else len(order))


def field_svg(field: Field, size: float = 240) -> str:
    """The panels of a field side by side, as an SVG file that needs nothing else."""
    scale = size / field.width
    height = field.height * scale
    width = len(field.panels) * (size + 10) - 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height + 34:.0f}" '
        'font-family="DejaVu Sans, sans-serif" font-size="10">',
        f"<style>{OUTLINES}</style>",
        f'<defs><image id="photo" width="{field.width}" height="{field.height}" href="{field.image}"/></defs>',
    ]
    for index, panel in enumerate(field.panels):
        x = index * (size + 10)
        parts.append(
            f'<svg x="{x:.0f}" width="{size:.0f}" height="{height:.0f}" viewBox="0 0 {field.width} {field.height}">'
        )
        parts.append('<use href="#photo"/>')
        for fate in FATES:
            if panel.paths[fate]:
                parts.append(
                    f'<path class="under" d="{panel.paths[fate]}"/><path class="{fate}" d="{panel.paths[fate]}"/>'
                )
        parts.append("</svg>")
        words = f"{panel.text}; {panel.score}" if panel.score else panel.text
        for line, shown in enumerate((f"{field.domain}, {panel.title}", words)):
            parts.append(f'<text x="{x:.0f}" y="{height + 14 + 14 * line:.0f}">{escape(shown)}</text>')
    return "".join([*parts, "</svg>\n"])


def job_of(run: LoadedRun, analysis: Analysis, strategy: str) -> str | None:
    """The job of the chosen setting with the lowest seed that has predictions."""
    choice = analysis.choices[
        (analysis.choices["strategy"] == strategy) & (analysis.choices["selection"] == DEFAULT_RULE)
    ]
    if choice.empty:
        return None
    rows = run.records[(run.records["strategy"] == strategy) & (run.records["trial"] == choice.iloc[0]["trial"])]
    rows = rows[rows["checkpoint"] == choice.iloc[0]["checkpoint"]]
    for job in rows.sort_values("seed")["job"].drop_duplicates():
        if job in run.jobs and (run.jobs[job].folder / "predictions").is_dir():
            return str(job)
    return None


def _median_slide(run: LoadedRun, domain: str, jobs: dict[str, str], places: pd.DataFrame) -> str | None:
    rows = run.records[(run.records["domain"] == domain) & (run.records["split"] == "test")]
    rows = rows[(rows["measure"] == "dice") & rows["slide"].isin(places.index) & rows["job"].isin(jobs.values())]
    predicted = {
        slide for slide in rows["slide"].unique() if any(predictions_of(run, job, slide) for job in jobs.values())
    }
    means = rows[rows["slide"].isin(predicted)].groupby("slide")["value"].mean().fillna(0.0).sort_values(kind="stable")
    return str(means.index[(len(means) - 1) // 2]) if len(means) else None


def predictions_of(run: LoadedRun, job: str, slide: str) -> Path | None:
    """What the job found on the slide, GeoJSON."""
    return run.path(f"jobs/{job}/predictions/{file_name(slide)}.geojson")


def _field(
    run: LoadedRun,
    slide: str,
    domain: str,
    role: str,
    image: Path,
    *,
    place: pd.Series,
    jobs: dict[str, str],
    size: int,
) -> Field:
    from PIL import Image

    with Image.open(image) as opened:
        full = opened.width
    data, width, height = picture(image, size)
    scale = float(place["downsample"]) * full / width
    frame = (float(place["x"]), float(place["y"]), scale, width, height)
    truth = read_outlines(run.path(f"annotations/own/{file_name(slide)}.geojson"))
    panels = []
    for strategy, job in jobs.items():
        path = predictions_of(run, job, slide)
        if path is None:
            continue
        score, point_px = _score_text(run, job, slide), _point_px(run, slide)
        panels.append(_panel(run, strategy, truth, read_outlines(path), frame, score, point_px=point_px))
    return Field(slide, domain, role, data, width, height, tuple(panels))


def _panel(
    run: LoadedRun,
    strategy: str,
    truth: pd.DataFrame | None,
    table: pd.DataFrame | None,
    frame: tuple[float, ...],
    score: str,
    *,
    point_px: float | None,
) -> Panel:
    fates: dict[str, list[Any]] = {fate: [] for fate in FATES}
    overlap = run.study.evaluation.overlap(run.study.task.kind)
    ignored = [shape for name in IGNORE_CLASSES for shape in _of_class(truth, name)]
    for name in run.study.task.classes:
        annotated = _of_class(truth, name)
        objects = _of_class(table, name)
        matching = match_objects(annotated, objects, overlap, ignored=ignored, point_px=point_px)
        fates["truth"] += [shape for shape, fate in zip(annotated, matching.truth, strict=True) if fate >= 0]
        fates["missed"] += [shape for shape, fate in zip(annotated, matching.truth, strict=True) if fate == -1]
        fates["hit"] += [object_ for object_, fate in zip(objects, matching.predicted, strict=True) if fate >= 0]
        fates["false"] += [object_ for object_, fate in zip(objects, matching.predicted, strict=True) if fate == -1]
    inside = {fate: _clipped(shapes, frame) for fate, shapes in fates.items()}
    counts = ", ".join(
        f"{len(inside[fate])} {word}" for fate, word in (("hit", "hit"), ("missed", "missed"), ("false", "false"))
    )
    paths = {fate: path_data(shapes) for fate, shapes in inside.items()}
    return Panel(strategy, run.label(strategy), paths, counts, score)


def _point_px(run: LoadedRun, slide: str) -> float | None:
    """How far a detected point may lie from the annotated one, in level-0 pixels, where the pixel size is known."""
    mpp = pd.to_numeric(run.cohort.loc[run.cohort["slide"] == slide, "mpp"]) if "mpp" in run.cohort else pd.Series()
    return run.study.evaluation.point_um / float(mpp.iloc[0]) if len(mpp) and mpp.notna().all() else None


def _score_text(run: LoadedRun, job: str, slide: str) -> str:
    rows = run.records[(run.records["job"] == job) & (run.records["slide"] == slide)]
    rows = rows[(rows["measure"] == "dice") & rows["checkpoint"].isin(("best", REFIT)) & rows["value"].notna()]
    return f"Dice {rows['value'].mean():.2f} (whole slide)" if len(rows) else ""


def read_outlines(path: Path | None) -> pd.DataFrame | None:
    """The shapes of a file, level-0 pixels; ``None`` without a file."""
    if path is None:
        return None
    from stainda.annotations import read_shapes  # geopandas is slow to import

    return pd.DataFrame(read_shapes(path, []))


def _of_class(shapes: pd.DataFrame | None, name: str) -> list[Any]:
    if shapes is None or shapes.empty:
        return []
    rows = shapes[shapes["class"] == name]
    return [shape for shape in rows["geometry"] if shape.geom_type in ("Polygon", "MultiPolygon", "Point")]


def _clipped(shapes: Sequence[Any], frame: tuple[float, ...]) -> list[Any]:
    """Shapes in pixels of the shown image, points as small rings; those outside left out, long outlines thinned to half
    a pixel."""
    if not shapes:
        return []
    x, y, scale, width, height = frame
    moved = shapely.transform(np.array(shapes, object), lambda points: (points - [x, y]) / scale)
    near = moved[shapely.intersects(moved, shapely.box(0, 0, width, height))]
    near = np.where(shapely.get_type_id(near) == 0, shapely.buffer(near, POINT_RADIUS), near)
    return list(shapely.simplify(near, 0.4))


def path_data(shapes: Sequence[Any]) -> str:
    """Polygons as the ``d`` of an SVG path."""
    parts = []
    for shape in shapes:
        for polygon in getattr(shape, "geoms", [shape]):
            for ring in [polygon.exterior, *polygon.interiors]:
                points = shapely.get_coordinates(ring)[:-1]
                parts.append("M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points) + "Z")
    return "".join(parts)
