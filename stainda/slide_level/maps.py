"""What each patch had to do with the answer, back on the slide: squares and an image that QuPath opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely

from stainda.annotations import bounds_of_file, make_shapes, write_geojson
from stainda.arrays import Array
from stainda.run_directory.slide_level_tables import ATTENTION, ATTENTION_IMAGE
from stainda.slide_level.aggregators import EVIDENCE
from stainda.slide_level.bags import Bag
from stainda.slide_level.trainings import Answers
from stainda.slides.value_image import write_value_image


def write_maps(bag: Bag, file: Path, answers: Sequence[Answers], root: Path) -> None:
    """A map of one slide for each aggregator that gives evidence, the mean over its trainings.

    ``attention`` sums to 1 over the slide; ``rank`` is the share of patches with less of it, which is easier to colour.
    Of ``max`` it is the probability of each patch.

    Args:
        file: of the slide.
    """
    for name in dict.fromkeys(answer.aggregator for answer in answers):
        given = [answer.evidence[bag.slide] for answer in answers if answer.aggregator == name and answer.evidence]
        if given:
            _write_map(bag, file, name, np.mean(given, axis=0, dtype=float), root)


def _write_map(bag: Bag, file: Path, name: str, values: Array, root: Path) -> None:
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(len(values) - 1, 1)
    x, y = bag.corners.T
    properties = [
        {"objectType": "tile", "measurements": {EVIDENCE[name]: float(f"{value:.4g}"), "rank": round(float(rank), 4)}}
        for value, rank in zip(values, ranks, strict=True)
    ]
    ids = [f"{bag.slide}/{name}-{index}" for index in range(len(values))]
    boxes = shapely.box(x, y, x + bag.extent, y + bag.extent)
    shapes = make_shapes(list(boxes), "attention map", id=ids, properties=properties)
    path = ATTENTION.at(root, slide=bag.slide, aggregator=name)
    write_geojson(shapes, path, "annotation", 2, bounds_of_file(file))
    if bag.mpp is not None:
        image = grid_of(bag, values)
        write_value_image(
            image, bag.step * bag.mpp, f"{EVIDENCE[name]} of patches, {name}",
            ATTENTION_IMAGE.at(root, slide=bag.slide, aggregator=name),
        )  # fmt: skip


def grid_of(bag: Bag, values: Array) -> Array:
    """Values on the grid of the patches, (rows, columns) from the corner of the slide; ``nan`` without a patch.

    The last patches of a row or column are moved to the rim, and stand in the nearest square.
    """
    columns, rows = (max(1, int(np.ceil((side - bag.extent) / bag.step - 1e-6)) + 1) for side in bag.size)
    at = np.round(bag.corners / bag.step).astype(int)
    image = np.full((rows, columns), np.nan)
    image[np.clip(at[:, 1], 0, rows - 1), np.clip(at[:, 0], 0, columns - 1)] = values
    return image
