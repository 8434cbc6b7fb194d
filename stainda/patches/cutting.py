"""Cutting the patches of one slide: planned, read and labelled in one visit, in this process or another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stainda.annotations import IGNORE_CLASSES, empty_shapes, rasterise
from stainda.annotations.raster import PixelGrid, covered
from stainda.cohort import Section
from stainda.config import PatchConfig, TaskConfig
from stainda.files import whole_file
from stainda.patches import planning
from stainda.patches.crowd import encode
from stainda.patches.details import WITH_DETAILS, as_discs, heat_of, numbers_of, sigma_of
from stainda.patches.pixels import WorkingPixels, sample_tissue_pixels, working_downsample
from stainda.patches.store import DTYPES
from stainda.randomness import generator_for
from stainda.slides import TissueMask, open_slide, tissue_mask

IGNORED = 255
LEAST_DOWNSAMPLE = 0.5
"""Below it a slide is enlarged more than twofold to give the patches' pixels: it shows less than is expected."""


@dataclass(frozen=True)
class Request:
    """Patches of one kind wanted from a slide.

    Attributes:
        kind: ``labelled`` (source), ``unlabelled``, ``propagated`` or ``oracle`` (target).
        splits: where they go; two of them divide the slide into bands.
        shapes: what labels are painted from; ``None`` for unlabelled patches.
        count: how many unlabelled patches.
        bands: shapes that divide a slide which serves two splits, where only one of them is wanted.
    """

    kind: str
    splits: tuple[str, ...]
    shapes: gpd.GeoDataFrame | None = None
    count: int = 0
    bands: gpd.GeoDataFrame | None = None


@dataclass(frozen=True)
class SlideJob:
    """Everything cutting one slide needs; can be sent to another process.

    Attributes:
        drawn: the shapes of each annotator, in the order of the store's; ``None`` for one who did not see the slide.
    """

    section: Section
    domain: str
    requests: tuple[Request, ...]
    config: PatchConfig
    task: TaskConfig
    seed: int
    min_confidence: float
    part: Path
    weights: bool = False
    drawn: tuple[gpd.GeoDataFrame | None, ...] = ()

    @property
    def details(self) -> bool:
        """Whether patches hold more of each pixel than its class (:mod:`stainda.patches.details`)."""
        return self.task.kind in WITH_DETAILS

    @property
    def more(self) -> tuple[str, ...]:
        """Arrays of the store besides pixels and labels."""
        wanted = {"weights": self.weights, "details": self.details, "votes": bool(self.drawn)}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)


@dataclass
class CutSlide:
    """Result of cutting one slide: rows of the table, arrays in ``part`` (a ``.npz``), and notes."""

    slide: str
    part: Path
    downsample: float = float("nan")
    mpp: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    bands: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)


def cut_slide(job: SlideJob) -> CutSlide:
    """Cut the patches of one slide, each with its margin, and write them to ``job.part``.

    Raises:
        SlideError: the slide cannot be read, or its mpp is requested and not known.
    """
    section, config, margin = job.section, job.config, job.config.margin_pixels
    side = config.size + 2 * margin
    result = CutSlide(section.slide, job.part)
    with open_slide(section.path, section.mpp) as slide:
        result.downsample = working_downsample(slide, config, section.slide)
        result.mpp = slide.mpp
        if result.mpp and result.downsample < LEAST_DOWNSAMPLE:
            _note(result, "all", f"pixels are enlarged {1 / result.downsample:.1f} times: {_sizes(job, result.mpp)}")
        tissue = tissue_mask(slide, 512 if max(slide.size) <= 8192 else 1024)
        arrays: dict[str, list[NDArray[Any]]] = {name: [] for name in ("images", "labels", *job.more)}
        if not tissue.mask.any():
            _note(result, "all", "no tissue was found on the slide")
            colours = np.zeros((0, 3), np.uint8)
        else:
            pixels = WorkingPixels(slide, result.downsample)
            colours = sample_tissue_pixels(slide, tissue, result.downsample, section.slide, job.seed, pixels)
            for request in job.requests:
                for split, site in _sites(job, request, result, tissue):
                    painter = Painter(request.shapes, job, result.mpp)
                    for around, x, y in _plan(job, request, split, site, painter, result):
                        corner = (x - margin * site.downsample, y - margin * site.downsample)
                        arrays["images"].append(pixels.square(*corner, side))
                        for name, array in painter.arrays(*corner, side, site.downsample).items():
                            arrays[name].append(array)
                        patch = arrays["labels"][-1][margin : margin + config.size, margin : margin + config.size]
                        row = {"around": around, "x": x, "y": y, "downsample": site.downsample}
                        share = float(tissue.share(np.array([[x, y, x + site.extent, y + site.extent]]))[0])
                        result.rows.append(
                            {
                                **_row(job, request, split),
                                **row,
                                "tissue": share,
                                **painter.counts(x, y, site, patch),
                            }
                        )
    with whole_file(job.part) as aside:  # a slide may be cut twice, where a worker was given up that goes on
        np.savez(aside, tissue=colours, **{name: _stacked(name, some, side) for name, some in arrays.items()})
    return result


def cut_for_pool(_slide: str, job: SlideJob) -> CutSlide:
    """:func:`cut_slide`, for a worker of a pool."""
    return cut_slide(job)


def _stacked(name: str, arrays: list[NDArray[Any]], side: int) -> NDArray[Any]:
    if arrays:
        return np.stack(arrays)
    return np.zeros((0, side, side, *([3] if name == "images" else [])), DTYPES.get(name, np.uint8))


class Painter:
    """Labels of patches from one set of shapes; without shapes every pixel is ignored.

    Args:
        mpp: micrometres per level-0 pixel, where known: points are painted as discs of a size in micrometres.
    """

    def __init__(self, shapes: gpd.GeoDataFrame | None, job: SlideJob, mpp: float | None) -> None:
        self.known = shapes is not None
        self._classes, self._more = job.task.classes, job.more
        self._drawn: tuple[Painter, ...] = ()
        if "votes" in self._more and shapes is not None:
            alone = replace(job, weights=False, drawn=())
            self._drawn = tuple(Painter(by_one, alone, mpp) for by_one in job.drawn)
        table = empty_shapes() if shapes is None else shapes
        self._sigma: float | None = None
        if job.task.kind == "points" and len(table):
            self._sigma = sigma_of(job.task, mpp, job.section.slide)
            areas = ~table["class"].isin(self._classes)  # regions to ignore stay as they are drawn
            table = gpd.GeoDataFrame(pd.concat([as_discs(table[~areas], self._sigma), table[areas]]))
        wanted = table["class"].isin(self._classes).to_numpy(bool)
        doubtful = wanted & (table["confidence"].to_numpy(float) < job.min_confidence)  # NaN is not doubtful
        ignored = table["class"].isin(IGNORE_CLASSES).to_numpy(bool) | doubtful
        self._shapes, self._ignore = table[wanted & ~doubtful], table[ignored]
        self.objects = _sound(self._shapes)
        self.avoid = self.objects + _sound(self._ignore)
        self._tree = shapely.STRtree(self.objects)

    def arrays(self, x: float, y: float, size: int, downsample: float) -> dict[str, NDArray[Any]]:
        """``labels`` of a square, and what else the job wants of it, by the name of the store's array."""
        ways: dict[str, Callable[..., NDArray[Any]]] = {
            "labels": self.paint,
            "weights": self.weigh,
            "details": self.detail,
            "votes": self.vote,
        }
        return {name: ways[name](x, y, size, downsample) for name in ("labels", *self._more)}

    def within(self, box: tuple[float, float, float, float]) -> NDArray[np.intp]:
        """Indices, ascending, of the objects that reach into a box of level-0 pixels."""
        return np.sort(self._tree.query(shapely.box(*box), predicate="intersects"))

    def by_class(self) -> dict[str, list[BaseGeometry]]:
        """The objects of each class of the task."""
        return {name: _sound(self._shapes[self._shapes["class"] == name]) for name in self._classes}

    def paint(self, x: float, y: float, size: int, downsample: float) -> NDArray[np.uint8]:
        """uint8 (size, size): 0 background, i + 1 for the i-th class, 255 ignored."""
        if not self.known:
            return np.full((size, size), IGNORED, np.uint8)
        return rasterise(self._shapes, self._classes, PixelGrid(x, y, size, size, downsample), ignore=self._ignore)

    def weigh(self, x: float, y: float, size: int, downsample: float) -> NDArray[np.uint8]:
        """How much each pixel counts, uint8 (size, size) in 1/255: within an object and half its radius around it as
        much as the object is sure (where it is not, the object lies next to it), elsewhere fully."""
        out = np.full((size, size), 255, np.uint8)
        patch = shapely.box(x, y, x + size * downsample, y + size * downsample)
        for row in sorted(self._halo_tree.query(patch), key=lambda row: -self._sureness[row]):
            inside = covered(self._halos[row], PixelGrid(x, y, size, size, downsample))
            out[inside] = np.minimum(out[inside], round(255 * self._sureness[row]))
        return out

    def detail(self, x: float, y: float, size: int, downsample: float) -> NDArray[np.uint16]:
        """What the task asks of each pixel besides its class, uint16 (size, size): see the module ``details``."""
        grid, reach = PixelGrid(x, y, size, size, downsample), 3 * (self._sigma or 0.0)
        box = shapely.box(x - reach, y - reach, x + size * downsample + reach, y + size * downsample + reach)
        near = np.sort(self._tree.query(box))
        near = near[np.argsort(self.numbers[near], kind="stable")]  # classes over each other as in the labels
        objects = np.asarray(self.objects, dtype=object)
        if self._sigma is None:
            return numbers_of(objects, near, grid)
        points = shapely.get_coordinates(shapely.centroid(objects[near]))
        return heat_of(points, self.numbers[near].tolist(), self._sigma, grid)

    def vote(self, x: float, y: float, size: int, downsample: float) -> NDArray[np.uint16]:
        """What each annotator says of each pixel, uint16 (size, size): see the module ``crowd``."""
        if not self._drawn:
            return np.full((size, size), IGNORED, np.uint16)
        answers = np.stack([painter.paint(x, y, size, downsample) for painter in self._drawn])
        return encode(answers, len(self._classes))

    @cached_property
    def numbers(self) -> NDArray[np.intp]:
        """Of every object the number of its class, from 1."""
        shapes = self._shapes.geometry.values
        there = np.array([shape is not None and not shape.is_empty for shape in shapes], bool)
        return np.array([self._classes.index(name) + 1 for name in self._shapes["class"][there]], np.intp)

    @cached_property
    def _sureness(self) -> NDArray[np.float64]:
        return np.nan_to_num(self._shapes["confidence"].to_numpy(float), nan=1.0).clip(0, 1)

    @cached_property
    def _halos(self) -> NDArray[np.object_]:
        shapes = np.asarray(self._shapes.geometry.values, dtype=object)
        return np.asarray(shapely.buffer(shapes, 0.5 * np.sqrt(shapely.area(shapes) / np.pi)), dtype=object)

    @cached_property
    def _halo_tree(self) -> shapely.STRtree:
        return shapely.STRtree(self._halos)

    def counts(self, x: float, y: float, site: planning.PatchSite, labels: NDArray[np.uint8]) -> dict[str, Any]:
        """Objects that reach into a patch, and pixels per class; ``None`` where nothing is known."""
        if not self.known:
            return {"n_objects": None, **{f"px_{name}": None for name in self._classes}}
        patch = shapely.box(x, y, x + site.extent, y + site.extent)
        pixels = np.bincount(labels.ravel(), minlength=256)
        return {
            "n_objects": len(self._tree.query(patch, predicate="intersects")),
            **{f"px_{name}": int(pixels[value]) for value, name in enumerate(self._classes, start=1)},
        }


def _sites(
    job: SlideJob, request: Request, result: CutSlide, tissue: TissueMask
) -> list[tuple[str, planning.PatchSite]]:
    """The part of the slide for each split: all of it, or bands where the slide serves two splits."""
    size, scale, least = job.config.size, result.downsample, job.config.min_tissue
    whole = (0, 0, *tissue.size)
    if len(request.splits) == 1 and request.bands is None:
        return [(request.splits[0], planning.PatchSite(tissue, size, scale, whole, least))]
    dividing = request.shapes if request.bands is None else request.bands
    bands = planning.validation_bands(tissue, Painter(dividing, job, result.mpp).by_class(), size * scale)
    result.bands = bands
    sites = []
    for split in request.splits:
        site = planning.PatchSite(tissue, size, scale, bands[split], least)
        if site.holds_a_patch:
            sites.append((split, site))
        else:
            _note(result, request.kind, f"the band of the slide for {split} is narrower than {_side(job, site)}")
    return sites


def _plan(
    job: SlideJob, request: Request, split: str, site: planning.PatchSite, painter: Painter, result: CutSlide
) -> list[tuple[str, float, float]]:
    config = job.config
    generator = generator_for(job.seed, "patches", job.section.slide, request.kind, split)
    if config.grid:
        planned = {"grid": planning.on_grid(site, config.stride or max(1, config.size // 2))}
    elif not painter.known:
        planned = {"tissue": planning.away_from_objects(site, [], request.count, generator)}
        if len(planned["tissue"]) < request.count:
            reason = f"{len(planned['tissue'])} patches on tissue were found, {request.count} were requested"
            _note(result, request.kind, reason)
    else:
        inside, most = painter.within(site.box), config.max_per_slide
        limit = generator_for(job.seed, "limit", job.section.slide, request.kind, split)
        # the objects first, as there may be a million of them; then their patches, as one may cover half a section
        chosen = inside[planning.drawn_in_turn(painter.numbers[inside], most, limit)]
        shapes = [painter.objects[i] for i in chosen]
        objects, owners = planning.around_objects(site, shapes, config.per_object, generator)
        kept = planning.drawn_in_turn(painter.numbers[chosen[owners]], most, limit)
        if len(chosen) < len(inside) or len(kept) < len(objects):
            reason = (
                f"{len(kept)} patches lie around {len(np.unique(owners[kept]))} of {len(inside)} annotated objects, "
                f"drawn at random ({split}; patches.max_per_slide: {most})"
            )
            _note(result, request.kind, reason)
        objects = objects[kept]
        wanted = round(config.negatives_per_object * len(objects)) if len(objects) else config.min_per_slide
        negatives = planning.away_from_objects(site, painter.avoid, wanted, generator)
        rest = planning.away_from_objects(site, [], wanted - len(negatives), generator)
        if len(rest):
            reason = (
                f"{len(negatives)} of {wanted} patches without an object were found ({split}); the others lie anywhere"
            )
            _note(result, request.kind, reason)
        planned = {"object": objects, "negative": negatives, "tissue": rest}
        if job.task.kind == "classification":
            near = planning.near_objects(site, shapes, config.per_object, generator)
            planned["near"] = near[planning.drawn_in_turn(np.zeros(len(near), int), most, limit)]
    rows = [(around, float(x), float(y)) for around, corners in planned.items() for x, y in corners]
    if not rows:
        _note(result, request.kind, f"no place for {_side(job, site)} was found ({split})")
    return rows


def _row(job: SlideJob, request: Request, split: str) -> dict[str, Any]:
    section = job.section
    return {
        "slide": section.slide,
        "patient": section.patient,
        "block": section.block,
        "section": section.section,
        "stain": section.stain,
        "centre": section.centre,
        "scanner": section.scanner,
        "domain": job.domain,
        "split": split,
        "kind": request.kind,
    }


def _sizes(job: SlideJob, mpp: float | None) -> str:
    return f"patches have {job.config.mpp} µm per pixel, the slide {mpp} (check the manifest's column mpp)"


def _side(job: SlideJob, site: planning.PatchSite) -> str:
    """A patch in words: where it does not fit, the pixel size is often wrong."""
    known = job.config.mpp is not None
    check = "; it depends on the slide's pixel size: check the manifest's column mpp" if known else ""
    return f"a patch of {site.extent:.0f} level-0 pixels a side{check}"


def _sound(shapes: gpd.GeoDataFrame) -> list[BaseGeometry]:
    return [shape for shape in shapes.geometry.values if shape is not None and not shape.is_empty]


def _note(result: CutSlide, kind: str, reason: str) -> None:
    result.notes.append({"slide": result.slide, "kind": kind, "reason": reason})
