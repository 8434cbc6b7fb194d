"""How far a point may lie from where a registration puts it, place by place.

Two kinds of evidence. *Landmarks*, where both sections have them: the median error of the pair. *The images*: on a
lattice over the tissue the neighbourhood of each node is compared with the same neighbourhood of the other section,
shifted in every direction (:mod:`stainda.registration.evidence`); where a shift fits clearly better, the map is off by
about that much there. Where there are both, the larger counts: a transform that was made from landmarks meets them.

What images of different stains cannot show is not in it: two sections are different tissue, and an outline can be right
at its place while the structure itself has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from stainda.registration.affine import apply_affine
from stainda.registration.evidence import LocalEvidence
from stainda.registration.neighbourhood import DensityPyramid
from stainda.registration.results import BlockResult
from stainda.registration.sections import SectionImage
from stainda.registration.transforms import Between

Floats = npt.NDArray[np.float64]
BOX_UM = 150.0
"""Side of the neighbourhoods compared: shifts of up to half of it are seen."""
MOST_NODES = 256
GAIN = 1.0
"""Standard deviations by which a shifted neighbourhood must fit better, for its shift to count in full."""
NEIGHBOURS = 9


@dataclass(frozen=True, eq=False)
class PositionError:
    """Error of the map from one section to another, about the level-0 pixels of the second.

    Attributes:
        nodes: (n, 2) places, level-0 pixels of the target. um: (n,) error there, micrometres.
        source: how it was obtained: ``same section``, ``assumed``, ``landmarks``, ``images``, ``landmarks and images``,
            ``unknown``.
    """

    nodes: Floats
    um: Floats
    source: str

    @classmethod
    def constant(cls, um: float, source: str) -> PositionError:
        return cls(np.zeros((1, 2)), np.array([um]), source)

    def at(self, xy: Floats) -> Floats:
        """Error (n,) at level-0 pixels (n, 2), micrometres; ``nan`` where nothing is known."""
        xy = np.asarray(xy, float).reshape(-1, 2)
        k = min(4, len(self.nodes))
        away, index = cKDTree(self.nodes).query(xy, k=k)
        away, index = away.reshape(len(xy), k), index.reshape(len(xy), k)
        weight = 1 / np.maximum(away, 1e-6)
        return (self.um[index] * weight).sum(axis=1) / weight.sum(axis=1)

    @property
    def median(self) -> float:
        return float(np.median(self.um))


def between_sections(
    between: Between, source: SectionImage | None, target: SectionImage | None, landmarks_um: float
) -> PositionError:
    """Error of going from one section to another.

    Args:
        source, target: working images, ``None`` where a section cannot be read.
        landmarks_um: median landmark error of the pair, ``nan`` where there are none.
    """
    by_images = None if source is None or target is None else _by_images(between, source, target)
    if by_images is None:
        known = np.isfinite(landmarks_um)
        return PositionError.constant(landmarks_um, "landmarks" if known else "unknown")
    nodes, um = by_images
    if not np.isfinite(landmarks_um):
        return PositionError(nodes, um, "images")
    return PositionError(nodes, np.maximum(um, landmarks_um), "landmarks and images")


def _by_images(between: Between, source: SectionImage, target: SectionImage) -> tuple[Floats, Floats] | None:
    """Nodes on the target and the error there; ``None`` where the pixel size is not known or nothing is comparable."""
    if target.mpp is None:
        return None
    side = BOX_UM / target.mpp
    nodes = _lattice(target, side)
    if not len(nodes):
        return None
    boxes = np.column_stack([nodes - side / 2, nodes + side / 2])
    evidence = LocalEvidence.of((DensityPyramid(source), DensityPyramid(target)), between, boxes)
    looked = evidence.compared > 0.5
    if not looked.any():
        return None
    pitch = max(target.downsample * target.mpp, BOX_UM / 24)
    shift = evidence.offset * BOX_UM * np.clip(evidence.gain / GAIN, 0, 1)
    um = np.hypot(shift, 0.5 * pitch)[looked]
    nodes = nodes[looked]
    near = cKDTree(nodes).query(nodes, k=min(NEIGHBOURS, len(nodes)))[1].reshape(len(nodes), -1)
    return nodes, np.median(um[near], axis=1)  # errors are smooth; a single neighbourhood can be mistaken


def _lattice(image: SectionImage, side: float) -> Floats:
    """Places (n, 2) on tissue, about ``side`` level-0 pixels apart, at most :data:`MOST_NODES`."""
    rows, columns = np.nonzero(image.tissue)
    if not len(rows):
        return np.zeros((0, 2))
    area = len(rows) * image.downsample**2
    apart = max(side, float(np.sqrt(area / MOST_NODES))) / image.downsample
    y, x = (
        np.arange(low + apart / 2, high, apart)
        for low, high in ((rows.min(), rows.max()), (columns.min(), columns.max()))
    )
    gx, gy = np.meshgrid(x, y)
    inside = image.tissue[gy.astype(int), gx.astype(int)]
    places = np.column_stack([gx[inside], gy[inside]])
    return apply_affine(np.linalg.inv(image.matrix), places)


def landmark_error(result: BlockResult, first: str, second: str, mpp: float | None) -> float:
    """Median landmark error of going from one section to another, micrometres, from those of each to the reference;
    ``nan`` where a section has none."""
    rows: dict[str, Mapping[str, Any]] = {str(row["source"]): row for row in result.rows}
    total = 0.0
    for slide in {first, second} - {result.reference}:
        row = rows.get(slide, {})
        step = "tre_nonrigid" if row.get("status") == "registered" else "tre_rigid"
        um, px = (_number(row.get(f"{step}_{unit}")) for unit in ("um", "px"))
        value = um if np.isfinite(um) else px * (np.nan if mpp is None else mpp)
        if not np.isfinite(value):
            return float("nan")
        total += value**2
    return float(np.sqrt(total))


def _number(value: Any) -> float:
    return float("nan") if value in (None, "") else float(value)
