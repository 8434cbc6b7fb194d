"""The same object across the sections of its block, with what each strategy made of it: worst failures first.

The objects were chosen, and their places photographed in the frame of the block, when the study was scored
(``object_gallery/`` of the run). Outlines are warped into that frame here, by the transforms of the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import shapely

from stainda.annotations import IGNORE_CLASSES
from stainda.errors import RegistrationError
from stainda.evaluation import match_objects
from stainda.evaluation.analysis import Analysis
from stainda.names import file_name
from stainda.objects.moving import moved_geometries
from stainda.objects.overlap import polygons
from stainda.registration.results import BlockResult, load_block
from stainda.report.drawings import picture
from stainda.report.gallery import job_of, path_data, predictions_of, read_outlines, shown_strategies
from stainda.report.run import LoadedRun
from stainda.report.summary_text import count
from stainda.run_directory.tables import GALLERY, GALLERY_LEFT_OUT

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


SHOWN_PIXELS = 252
BEYOND = 8.0
"""Pixels beyond the picture at which outlines are cut, so that no line along the cut is seen."""
HIT, MISSED, ABSENT, IGNORED, NOT_SCORED = "hit", "missed", "absent", "ignored", "not_scored"
FATE_COLUMNS = (
    "place", "kind", "block", "patient", "object", "class", "slide", "section", "stain", "centre", "domain", "role",
    "strategy", "job", "fate", "iou", "false_in_field", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class StrategyCell:
    """One strategy on one section: what became of the object in the middle, and outlines by fate as SVG path data."""

    title: str
    fate: str
    text: str
    paths: Mapping[str, str] = field(default_factory=dict)
    iou: float = math.nan
    false: int = 0


@dataclass(frozen=True)
class SectionRow:
    """One section: its photograph in the frame of the block (``""``: there is none, for ``reason``)."""

    slide: str
    title: str
    about: str
    image: str
    reason: str
    truth: str
    text: str
    cells: tuple[StrategyCell, ...]


@dataclass(frozen=True)
class FollowedObject:
    """One object: a row per section, a column per strategy. ``bar`` is the scale bar in pixels, 0 for none."""

    place: int
    title: str
    words: str
    field: str
    size: int
    bar: float
    bar_text: str
    strategies: tuple[str, ...]
    rows: tuple[SectionRow, ...]

    @property
    def file(self) -> str:
        """Name of the figure's file."""
        return f"object_gallery_{self.place}"


@dataclass(frozen=True)
class ObjectGallery:
    """What the page shows: the objects and the rule that chose them, or why there are none (``absent``)."""

    objects: tuple[FollowedObject, ...] = ()
    rule: str = ""
    absent: str = ""
    skipped: tuple[str, ...] = ()
    frame: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(FATE_COLUMNS)))


def make_object_gallery(run: LoadedRun, analysis: Analysis) -> ObjectGallery:
    """The objects of ``object_gallery/gallery.csv`` with the result of every strategy; pictures of a few."""
    table = run.tables[GALLERY.path]
    skipped = _left_out(run)
    if table.empty:
        return ObjectGallery(absent=_absence(run, skipped), skipped=skipped)
    order = [strategy.name for strategy in run.study.strategies]
    jobs = {name: job for name in order if (job := job_of(run, analysis, name))}
    pictured = [name for name in shown_strategies(run, analysis) if name in jobs]
    blocks: dict[str, BlockResult] = {}
    faults: list[str] = []
    for block, settings in table.drop_duplicates("block").set_index("block")["registration"].items():
        try:
            blocks[str(block)] = load_block(run.folder / "registration", str(block))
        except RegistrationError as error:
            faults.append(f"block {block}: {error.message}")
            continue
        if blocks[str(block)].settings != settings:
            del blocks[str(block)]
            faults.append(f"block {block}: registered anew since; 'stainda run' makes its pictures again")
    slides = _Slides(run, jobs)
    objects, rows = [], []
    for _, part in table[table["block"].isin(list(blocks))].groupby("place", sort=True):
        followed, fates = _object(run, part, blocks[str(part["block"].iloc[0])], jobs, pictured, slides)
        objects.append(followed)
        rows += fates
    absent = "" if objects else "No object can be shown"
    frame = pd.DataFrame(rows, columns=list(FATE_COLUMNS))
    return ObjectGallery(tuple(objects), _rule(table), absent, (*faults, *skipped), frame)


class _Slides:
    """Annotations and detections of a slide, read and matched once though several objects lie on it."""

    def __init__(self, run: LoadedRun, jobs: Mapping[str, str]) -> None:
        self.run, self.jobs = run, jobs
        self._truth: dict[str, pd.DataFrame | None] = {}
        self._matched: dict[tuple[str, str, str], tuple[Any, Any, Any] | None] = {}

    def truth(self, slide: str) -> pd.DataFrame | None:
        if slide not in self._truth:
            self._truth[slide] = read_outlines(self.run.path(f"annotations/own/{file_name(slide)}.geojson"))
        return self._truth[slide]

    def matched(self, slide: str, strategy: str, cls: str) -> tuple[Any, Any, Any] | None:
        """Annotated shapes, detected polygons, and their matching; ``None`` where the slide was not scored."""
        key = (slide, strategy, cls)
        if key not in self._matched:
            truth, path = self.truth(slide), predictions_of(self.run, self.jobs[strategy], slide)
            outlines = read_outlines(path)
            if truth is None or outlines is None:
                self._matched[key] = None
            else:
                annotated, detected = truth[truth["class"] == cls], polygons(outlines[outlines["class"] == cls])
                ignored = truth[truth["class"].isin(IGNORE_CLASSES)]
                matching = match_objects(annotated, detected, self.run.study.evaluation.iou, ignored=ignored)
                self._matched[key] = annotated, detected, matching
        return self._matched[key]


@dataclass(frozen=True)
class _Window:
    """The field of view: maps level-0 pixels of a section to pixels of its picture."""

    x: float
    y: float
    scale: float
    size: int

    def of(self, shapes: Any, to_frame: Any) -> tuple[Any, Any]:
        """What the picture shows of polygons, in its pixels (outlines thinned to half a pixel), and their indices."""
        array = polygons(shapes)
        if not len(array):
            return array, np.zeros(0, int)
        moved = polygons(moved_geometries(array, lambda xy: (to_frame(xy) - (self.x, self.y)) / self.scale)[0])
        seen = np.flatnonzero(shapely.intersects(moved, shapely.box(0, 0, self.size, self.size)))
        edge = shapely.box(-BEYOND, -BEYOND, self.size + BEYOND, self.size + BEYOND)
        cut = np.empty(len(seen), object)
        cut[:] = [_polygonal(geometry) for geometry in shapely.simplify(shapely.intersection(moved[seen], edge), 0.5)]
        return cut, seen


def _polygonal(shape: BaseGeometry) -> BaseGeometry:
    """Its polygons: a cut may leave lines and points behind."""
    return shapely.MultiPolygon([part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"])


def _object(
    run: LoadedRun,
    part: pd.DataFrame,
    block: BlockResult,
    jobs: Mapping[str, str],
    pictured: Sequence[str],
    slides: _Slides,
) -> tuple[FollowedObject, list[dict[str, Any]]]:
    first = part.iloc[0]
    side, um_per_px = float(first["side"]), float(first["um_per_px"])
    sections: list[SectionRow] = []
    fates: list[dict[str, Any]] = []
    for row in part.to_dict("records"):
        image = run.path(row["image"]) if row["image"] else None
        transform = block.transforms.get(row["slide"])
        about = f"{row['slide']}, {row['role']}" if row["role"] != "unused" else f"{row['slide']}, not scored"
        title = f"{row['stain']}, centre {row['centre']}"
        if image is None or transform is None:
            reason = row["reason"] or f"{row['image'] or 'its picture'} is missing"
            sections.append(SectionRow(row["slide"], title, about, "", reason, "", "", ()))
            fates.append({**{key: row[key] for key in FATE_COLUMNS if key in row}, "reason": reason})
            continue
        data, size, _ = picture(image, SHOWN_PIXELS)
        window = _Window(float(row["x"]), float(row["y"]), side / size, size)
        truth = slides.truth(row["slide"])
        truth_paths = window.of([] if truth is None else truth[truth["class"] == row["class"]], transform.to_frame)
        text = "outlined here" if row["shape"] else "does not show the object" if truth is not None else ""
        cells = {
            name: _cell(
                run, slides, window, transform.to_frame, row, name, truth=truth_paths, pictured=name in pictured
            )
            for name in jobs
        }
        shown = tuple(cells[name] for name in pictured)
        sections.append(
            SectionRow(row["slide"], title, about, data, "", path_data(truth_paths[0]), text or "not annotated", shown)
        )
        for strategy, job in jobs.items():
            cell = cells[strategy]
            result = {"strategy": strategy, "job": job, "fate": cell.fate, "iou": cell.iou, "reason": ""}
            about_row = {key: row[key] for key in FATE_COLUMNS if key in row}
            fates.append({**about_row, **result, "false_in_field": None if cell.fate == NOT_SCORED else cell.false})
    bar, bar_text = _scale_bar(side * um_per_px)
    wide = f"{side * um_per_px:.0f} µm" if math.isfinite(um_per_px) else f"{side:.0f} pixels"
    words = f"Field of view {wide}, in the frame of {first['frame']}"
    object_ = FollowedObject(
        int(first["place"]), _title(first), _failures(first), words, SHOWN_PIXELS, bar * SHOWN_PIXELS, bar_text,
        tuple(run.label(name) for name in pictured), tuple(sections),
    )  # fmt: skip
    return object_, fates


def _cell(
    run: LoadedRun,
    slides: _Slides,
    window: _Window,
    to_frame: Any,
    row: Mapping[str, Any],
    strategy: str,
    *,
    truth: tuple[Any, Any],
    pictured: bool,
) -> StrategyCell:
    title = run.label(strategy)
    matched = slides.matched(row["slide"], strategy, row["class"])
    if matched is None:
        return StrategyCell(title, NOT_SCORED, "not scored")
    annotated, detected, matching = matched
    drawn, seen = truth
    detected_paths, seen_detected = window.of(detected, to_frame)
    of_truth, of_detected = matching.truth[seen], matching.predicted[seen_detected]
    shown = {"truth": drawn[of_truth >= 0], "missed": drawn[of_truth == -1]} if pictured else {}
    shown |= {"hit": detected_paths[of_detected >= 0], "false": detected_paths[of_detected == -1]} if pictured else {}
    false = int((of_detected == -1).sum())
    fate, iou = ABSENT, math.nan
    at = np.flatnonzero(annotated["id"].to_numpy() == row["shape"])
    if len(at):
        value = int(matching.truth[at[0]])
        fate, iou = (HIT if value >= 0 else MISSED if value == -1 else IGNORED), float(matching.iou[at[0]])
    words = {HIT: f"hit, IoU {iou:.2f}", MISSED: "missed", ABSENT: "nothing to find", IGNORED: "in an ignored region"}
    text = words[fate] + (f"; {false} false" if false else "")
    return StrategyCell(title, fate, text, {name: path_data(paths) for name, paths in shown.items()}, iou, false)


def _title(row: Mapping[str, Any]) -> str:
    kind = "The median case" if row["kind"] == "typical" else f"Failure {row['place']}"
    return f"{kind}: {row['class']} of patient {row['patient']}, block {row['block']}"


def _failures(row: Mapping[str, Any]) -> str:
    tried, missed = int(row["tried"]), int(row["missed"])
    text = f"Missed in {missed} of {tried} attempts ({count(int(row['trainings']), 'strategy')}"
    text += f" on {count(int(row['scored_sections']), 'section')})"
    area = pd.to_numeric(row["false_um2"], errors="coerce")
    return text + (f"; false detections in the field cover {area / tried:,.0f} µm² on average." if area > 0 else ".")


def _rule(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    objects = count(int(first["of"]), "object")
    return (
        "Each object is followed across the sections of its block by the place and size of its annotated outlines in "
        "the registered frame; photographs and outlines are warped into that frame, the object in the middle. Of "
        f"{objects} of the test patients that two sections show, slivers smaller than what is reported aside, those "
        f"come first that the strategies without target labels ({int(first['trainings'])}, one training each) missed "
        "in the largest share of attempts on target sections; ties by the number of these sections, then by the area "
        "of false detections in the field. At most two objects of a patient, none in the field of another. The last "
        "is the median of that order. Target labels choose what is looked at here, and nothing else."
    )


def _scale_bar(side_um: float) -> tuple[float, str]:
    """Length of a round scale bar as a share of the field, at most 0.4 of it; nothing where µm are not known."""
    if not math.isfinite(side_um) or side_um <= 0:
        return 0.0, ""
    power = 10 ** math.floor(math.log10(0.4 * side_um))
    length = max(step * power for step in (1, 2, 5) if step * power <= 0.4 * side_um)
    return length / side_um, f"{length:g} µm"


def _left_out(run: LoadedRun) -> tuple[str, ...]:
    """Reasons of what is not shown, each with how many blocks or sections it holds for."""
    table = run.tables[GALLERY_LEFT_OUT.path]
    reasons = []
    for reason, part in table.groupby("reason", sort=False):
        names = [str(row["slide"]) or str(row["block"]) for row in part.to_dict("records")]
        names = [name for name in names if name]
        kind = "section" if part["slide"].astype(bool).all() else "block"
        about = f"{kind} {names[0]}: " if len(names) == 1 else f"{len(names)} {kind}s: " if names else ""
        reasons.append(f"{about}{reason}")
    return tuple(reasons)


def _absence(run: LoadedRun, skipped: Sequence[str]) -> str:
    test = run.cohort[run.cohort["split"].isin(["test", "all"])]
    if len(test) and test.groupby("block")["slide"].nunique().max() < 2:
        return "Every block of a test patient holds a single section, so no object can be followed across the stains"
    if GALLERY_LEFT_OUT.path in run.missing and not GALLERY.at(run.folder).is_file():
        return (
            "This run has no pictures of objects across the stains (object_gallery/gallery.csv): they are cut from the "
            "slides when a study is scored, and 'stainda run' with the same study file makes what is missing"
        )
    return "No object could be followed across the stains" if skipped else "No object was followed across the stains"
