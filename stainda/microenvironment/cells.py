"""Cells of a section: from files, or by the classical detector; and how well they match the truth.

The detector (no training): optical density, deconvolution into haematoxylin and chromogen (A. C. Ruifrok, D. A.
Johnston 2001), a blur, a threshold above the local median and above a fixed least, a watershed on the distance to the
edge of the stained area that parts cells at their necks, and the edge of each spot at half its own height. All of its
settings are in :class:`~stainda.config.microenvironment.CellDetectionConfig`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage
from scipy.spatial import cKDTree

from stainda.config.microenvironment import CellDetectionConfig
from stainda.errors import AnnotationError, did_you_mean
from stainda.microenvironment.touching_cells import parts_of
from stainda.objects.assignment import assign
from stainda.stains.deconvolution import separate
from stainda.stains.table import DYES

if TYPE_CHECKING:
    from stainda.slides import Slide

Floats = npt.NDArray[np.float64]
TILE = 1024
MARGIN = 96  # pixels around a tile, so that the background and cells at its edge are whole
GRID_UM = 8.0
HEIGHT = 0.75
"""Share of the pixels of a spot that have less chromogen than its height."""
DYE_PAIRS = {"dab": ("haematoxylin_ihc", "dab"), "red": ("haematoxylin_red", "permanent_red")}


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of one section.

    Attributes:
        xy: (n, 2) level-0 pixels. score: (n,) ``nan`` where not known.
        area_um2, density: (n,) area and mean optical density of the chromogen, ``nan`` where not known.
        positive: share of each square of ``grid_um`` micrometres that is stained, float (rows, columns) from the corner
            of the slide; ``None`` where pixels were not looked at.
        left_out: how many things were left out, by reason.
        others: (m, 2) cells of other classes, level-0 pixels: they do not count, but random relabelling draws among
            all.
    """

    xy: Floats
    score: Floats
    area_um2: Floats
    density: Floats
    positive: npt.NDArray[np.float32] | None
    left_out: dict[str, int]
    grid_um: float = GRID_UM
    others: Floats = field(default_factory=lambda: np.zeros((0, 2)))

    def __len__(self) -> int:
        return len(self.xy)


def read_cells(path: Path, classes: Sequence[str] = (), slide: Slide | None = None) -> Cells:
    """Cells from a file of any format: points, or the centroids of outlines (with their areas).

    Raises:
        AnnotationError: it cannot be read, or holds none of ``classes``.
    """
    from stainda.annotations import load_records

    records, problems = load_records(path, slide=slide)
    names = np.array([str(name) for name in records.classes], dtype=object)
    kept = np.isin(names, list(classes)) if classes else np.ones(len(names), bool)
    if classes and len(names) and not kept.any():
        raise AnnotationError(
            f"no cell is of class {classes[0]!r}", file=path, remedy=did_you_mean(classes[0], sorted({*names.tolist()}))
        )
    everything = np.asarray(records.geometries, dtype=object)
    shapes, others = everything[kept], everything[~kept]
    scores = np.asarray(records.scores, float)[kept]
    areas = shapely.area(shapes) if len(shapes) else np.zeros(0)
    mpp = None if slide is None else slide.mpp
    sized = np.where(areas > 0, areas * (np.nan if mpp is None else mpp**2), np.nan)
    left = {
        "of another class": int((~kept).sum()),
        "damaged in the file": sum(problem["action"] == "dropped" for problem in problems),
    }
    return Cells(
        shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2), scores, sized, np.full(len(shapes), np.nan),
        None, {reason: number for reason, number in left.items() if number},
        others=shapely.get_coordinates(shapely.centroid(others)).reshape(-1, 2),
    )  # fmt: skip


def detect_cells(slide: Slide, config: CellDetectionConfig) -> Cells:
    """Find stained cells on a whole slide, tile by tile.

    Raises:
        SlideError: the pixel size is not known.
    """
    mpp = slide.require_mpp("to find cells by their size")
    downsample = max(config.mpp / mpp, 1.0)
    scale = mpp * downsample
    width, height = (int(np.ceil(side / downsample)) for side in slide.size)
    cell = max(1, round(GRID_UM / scale))
    positive = np.zeros((-(-height // cell), -(-width // cell)), np.float32)
    nuclei: list[Floats] = []
    large = 0
    step = TILE // cell * cell
    for top in range(0, height, step):
        for left in range(0, width, step):
            rows, columns = min(step, height - top), min(step, width - left)
            image = slide.read_scaled(
                (left - MARGIN) * downsample, (top - MARGIN) * downsample, columns + 2 * MARGIN, rows + 2 * MARGIN,
                downsample,
            )  # fmt: skip
            if image.min() > 235:
                continue
            spots, mask, too_large = stained_spots(image, scale, config)
            x, y = spots[:, 0] - MARGIN, spots[:, 1] - MARGIN
            inside = (x >= 0) & (y >= 0) & (x < columns) & (y < rows)
            nuclei.append(np.column_stack([x + left, y + top, spots[:, 2:]])[inside])
            large += too_large
            core = mask[MARGIN : MARGIN + rows, MARGIN : MARGIN + columns]
            share = _shares(core, cell)
            r, c = top // cell, left // cell
            positive[r : r + share.shape[0], c : c + share.shape[1]] = share
    table = np.concatenate([*nuclei, np.zeros((0, 4))])
    left_out = {"stained area too large for a cell": large} if large else {}
    none = np.full(len(table), np.nan)
    return Cells(table[:, :2] * downsample, none, table[:, 2], table[:, 3], positive, left_out, cell * scale)


def stained_spots(
    image: npt.NDArray[np.uint8], mpp: float, config: CellDetectionConfig
) -> tuple[Floats, npt.NDArray[np.bool_], int]:
    """Stained spots of an image.

    Args:
        image: uint8 (h, w, 3). mpp: micrometres per pixel.

    Returns:
        Spots (n, 4): x, y in pixels (the first pixel reaches from 0 to 1), area in µm², mean optical density; the
        stained pixels (h, w); and how many areas were too large.
    """
    dyes = [DYES[name] for name in DYE_PAIRS[config.chromogen]]
    amount = ndimage.gaussian_filter(separate(image, dyes)[..., 1], config.smoothing_um / mpp)
    mask = (amount > config.least) & (amount - _background(amount, config.background_um / mpp) > config.above)
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    labels = parts_of(mask, mpp, config.separation_um, config.neck_um)
    number = int(labels.max())
    if not number:
        return np.zeros((0, 4)), mask, 0
    index = np.arange(1, number + 1)
    # the blur widens dark spots beyond the fixed threshold: their edge is where half of their own height is. Stain is
    # uneven, and one dark spot in a cell must not take the rest of it away, so the height is no maximum
    labels[amount < 0.5 * _heights(amount, labels)[labels]] = 0
    mask = labels > 0
    area = np.bincount(labels.ravel(), minlength=number + 1)[1:] * mpp**2
    centres = np.array(ndimage.center_of_mass(mask, labels, index)).reshape(-1, 2)
    mean = ndimage.mean(amount, labels, index)
    kept = (area >= config.min_area_um2) & (area <= config.max_area_um2)
    spots = np.column_stack([centres[:, 1] + 0.5, centres[:, 0] + 0.5, area, mean])[kept]
    return spots, mask, int((area > config.max_area_um2).sum())


def _heights(amount: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Floats:
    """Upper quartile of the chromogen in each spot, from label 0 (which has none)."""
    order = np.argsort(labels, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(labels.ravel()))
    values = amount.ravel()[order]
    quartiles = [np.quantile(values[a:b], HEIGHT) for a, b in pairwise(ends)]
    return np.array([0.0, *quartiles])


def _background(amount: npt.NDArray[np.float32], side: float) -> npt.NDArray[np.float32]:
    """Local median, of the image reduced to a tenth of the side and brought back."""
    from skimage.transform import resize

    step = max(1, int(side / 10))
    small = amount[::step, ::step]
    middle = ndimage.median_filter(small, size=max(3, round(side / step)), mode="nearest")
    return resize(middle, amount.shape, order=1, mode="edge", anti_aliasing=False).astype(np.float32)


def _shares(mask: npt.NDArray[np.bool_], cell: int) -> npt.NDArray[np.float32]:
    rows, columns = (-(-side // cell) for side in mask.shape)
    padded = np.zeros((rows * cell, columns * cell), np.float32)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return padded.reshape(rows, cell, columns, cell).mean(axis=(1, 3))


@dataclass(frozen=True)
class CellScore:
    """Cells that were found, missed and false, and the median distance of the found ones, micrometres."""

    hits: int
    missed: int
    false: int
    distance_um: float

    @property
    def f1(self) -> float:
        total = 2 * self.hits + self.missed + self.false
        return 2 * self.hits / total if total else float("nan")

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.missed) if self.hits + self.missed else float("nan")

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.false) if self.hits + self.false else float("nan")


def score_cells(truth: Floats, detected: Floats, within_um: float) -> CellScore:
    """Match points (n, 2) in micrometres one to one, most pairs first and then nearest, at most ``within_um`` apart."""
    if not len(truth) or not len(detected):
        return CellScore(0, len(truth), len(detected), float("nan"))
    near = cKDTree(truth).sparse_distance_matrix(cKDTree(detected), within_um, output_type="coo_matrix")
    away = np.linalg.norm(truth[near.row] - detected[near.col], axis=1)
    chosen = assign(near.row, near.col, 1 - 0.5 * away / within_um, most_pairs=True)
    hits = len(chosen)
    middle = float(np.median(away[chosen])) if hits else float("nan")
    return CellScore(hits, len(truth) - hits, len(detected) - hits, middle)
