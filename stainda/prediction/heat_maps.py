"""What decided: patches about the objects that a classifier found, with the heat map of each, as one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from stainda.arrays import Array
from stainda.errors import StaindaError
from stainda.files import whole_file

if TYPE_CHECKING:
    import geopandas as gpd
    from shapely.geometry.base import BaseGeometry

    from stainda.prediction.predictor import Predictor, ProbabilityMap
    from stainda.prediction.regions import PixelRegion

SHOWN = 12
"""Objects of a slide that are shown, at most: of each class in turn those with the highest scores."""

_PER_ROW = 4
_SIDE_MM, _TEXT_PT = 34.0, 7.0
_STYLE: Any = {"font.size": _TEXT_PT, "axes.titlesize": _TEXT_PT, "text.parse_math": False}
_SCALES_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


@dataclass(frozen=True)
class PatchEvidence:
    """One patch and what its places said for a class.

    Attributes:
        image: uint8 ``(S, S, 3)``. values: float32 ``(h, w)`` over the same field, log odds; see
            :class:`stainda.models.heat_maps.HeatMaps`.
        cls, probability: the class of the object, and what the network gives it on this patch.
        object_id: of the GeoJSON. method: how the map was made.
    """

    image: Array
    values: Array
    cls: str
    probability: float
    object_id: str
    method: str


def check_heat_maps(predictor: Predictor) -> None:
    """Whether a job's answers have heat maps.

    Raises:
        StaindaError: it is no classifier of patches.
    """
    if predictor.task.kind != "classification":
        raise StaindaError(
            f"heat maps are of classifiers of patches, and job {predictor.name} is of {predictor.task.kind}",
            remedy="Take --maps, which writes the probability of every pixel",
        )


def collect_evidence(
    predictor: Predictor,
    region: PixelRegion,
    probabilities: ProbabilityMap,
    shapes: gpd.GeoDataFrame,
    domain: str | None,
    name: str,
) -> list[PatchEvidence]:
    """The patches about the surest places of the most certain objects, with the network as it is applied to this slide.

    Args:
        region, probabilities: that the objects were found on. shapes: the objects, level-0 pixels.
        domain, name: of the slide, as for ``Predictor.probabilities_region``.
    """
    import torch

    from stainda.models import ClassificationNetwork
    from stainda.models.heat_maps import heat_maps
    from stainda.strategies.norm.statistics import statistics_of

    check_heat_maps(predictor)
    detector, network = predictor.detector, predictor.detector.network
    assert isinstance(network, ClassificationNetwork)
    rows = chosen(shapes)
    if not len(rows):
        return []
    side = predictor.patches.size
    centres = np.stack([
        surest_place(shape, probabilities, detector.classes.index(cls))
        for shape, cls in zip(rows.geometry, rows["class"], strict=True)
    ])  # fmt: skip
    corners = np.round((centres - [region.x, region.y]) / region.downsample - side / 2).astype(int)
    patches = np.stack([region.read(int(left), int(top), side, side) for left, top in corners])
    network.eval()
    with predictor.ready(region, domain, name) as (statistics, _), statistics_of(network, statistics), torch.no_grad():
        maps = heat_maps(network, detector.see(detector.images(patches), [name] * len(patches)))
    shares, values = torch.softmax(maps.logits.float(), 1).cpu().numpy(), maps.values.cpu().numpy()
    classes = [1 + detector.classes.index(cls) for cls in rows["class"]]
    return [
        PatchEvidence(patch, values[at, cls], str(row["class"]), float(shares[at, cls]), str(row["id"]), maps.method)
        for at, (patch, cls, row) in enumerate(
            zip(patches, classes, rows[["class", "id"]].to_dict("records"), strict=True)
        )
    ]


def surest_place(shape: BaseGeometry, probabilities: ProbabilityMap, cls: int) -> Array:
    """The middle (x, y) of the cell of an object with the highest probability of its class, level-0 pixels.

    Of an object without a cell it is its own middle. An outline may hold several structures that lie close together.
    """
    own = shapely.get_coordinates(shapely.centroid(shape))[0]
    step, array = probabilities.downsample, probabilities.array[cls]
    left, top, right, bottom = (np.asarray(shape.bounds) - [probabilities.x, probabilities.y] * 2) / step
    rows = np.arange(max(int(top), 0), min(int(bottom) + 1, array.shape[0]))
    columns = np.arange(max(int(left), 0), min(int(right) + 1, array.shape[1]))
    y, x = np.meshgrid(probabilities.y + (rows + 0.5) * step, probabilities.x + (columns + 0.5) * step, indexing="ij")
    inside = shapely.contains_xy(shape, x, y)
    if not inside.any():
        return own
    shares = np.where(inside, array[rows[:, None], columns[None, :]], -1.0)
    at = np.unravel_index(int(shares.argmax()), shares.shape)
    return np.array([x[at], y[at]])


def chosen(shapes: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Of each class in turn the object with the highest score that is left, :data:`SHOWN` in all; then by class."""
    ordered = shapes.sort_values("score", ascending=False, kind="stable")
    turn = ordered.groupby("class").cumcount()
    taken = ordered.loc[turn.sort_values(kind="stable").index[:SHOWN]]
    return taken.sort_values(["class", "score"], ascending=[True, False], kind="stable")


def write_heat_maps(evidence: list[PatchEvidence], path: Path, title: str, mpp: float | None) -> Path:
    """A PNG: each patch with its class and probability, and next to it its heat map over the patch in grey.

    One colour scale for all patches, blue against and red for the class; its colours are distinguished with any colour
    vision. Without an object it says so.

    Args:
        mpp: micrometres per pixel of the patches, for a bar of length; ``None``: in pixels.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows, columns = max(1, -(-len(evidence) // _PER_ROW)), min(len(evidence), _PER_ROW) or 1
    width, height = 2 * columns * _SIDE_MM, rows * (_SIDE_MM + 6) + 26
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(max(width, 120) / 25.4, height / 25.4), layout="constrained")
        figure.suptitle(title, fontsize=_TEXT_PT + 1)
        if evidence:
            axes = figure.subplots(rows, 2 * columns, squeeze=False)
            reach = max(max(float(np.abs(patch.values).max()) for patch in evidence), 1e-6)
            for place in axes.flat:
                place.axis("off")
            for index, patch in enumerate(evidence):
                row, column = divmod(index, _PER_ROW)
                shown = _draw(axes[row, 2 * column : 2 * column + 2], patch, reach)
            _draw_length(axes[0, 0], evidence[0].image.shape[0], mpp)
            figure.colorbar(shown, ax=axes, location="bottom", shrink=0.6, aspect=60, label=_unit(evidence[0].method))
        else:
            figure.text(0.5, 0.4, "no object was found on this slide", ha="center")
        with whole_file(path) as aside:
            figure.savefig(aside, format="png", dpi=200, facecolor="white", metadata={"Software": "stainda"})
    return path


def _draw(axes: Any, patch: PatchEvidence, reach: float) -> Any:
    side = patch.image.shape[0]
    extent = (0, side, side, 0)
    axes[0].imshow(patch.image, extent=extent)
    axes[0].set_title(f"{patch.cls}, p = {patch.probability:.2f}", loc="left")
    axes[1].imshow(patch.image.mean(2), cmap="gray", vmin=0, vmax=255, extent=extent)
    return axes[1].imshow(
        patch.values, cmap="RdBu_r", vmin=-reach, vmax=reach, alpha=0.65, extent=extent, interpolation="bilinear"
    )


def _draw_length(axes: Any, side: int, mpp: float | None) -> None:
    """A bar of about a quarter of a patch, with its length."""
    scale, unit = (1.0, "px") if mpp is None else (mpp, "µm")
    length = max((um for um in _SCALES_UM if um <= side * scale / 3), default=_SCALES_UM[0])
    x, y = side * 0.06, side * 0.94
    axes.plot([x, x + length / scale], [y, y], color="white", linewidth=4.0, solid_capstyle="butt")
    axes.plot([x, x + length / scale], [y, y], color="black", linewidth=2.0, solid_capstyle="butt")
    axes.text(
        x, y - side * 0.04, f"{length} {unit}", color="black", va="bottom",
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def _unit(method: str) -> str:
    from stainda.models.heat_maps import ACTIVATION

    if method == ACTIVATION:
        return "log odds of the class by place (class activation map; the mean over the patch decides)"
    return "log odds of the class that are lost when the place is covered (occlusion)"
