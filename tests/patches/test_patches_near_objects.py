"""A classification also gets patches that show an object next to their middle; those of a segmentation stay."""

from __future__ import annotations

import numpy as np
import pytest
from patch_cohort import CONFIG, RECTANGLES, ROLES, TASK, own_shapes, propagated_shapes, write_cohort

from stainda.patches import build_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    cohort = write_cohort(folder)
    shapes = {"own": own_shapes(cohort), "propagated": propagated_shapes(cohort)}
    made = {}
    for kind in ("segmentation", "classification", "segmentation"):
        task = TASK.model_copy(update={"kind": kind})
        made[kind] = build_store(cohort, ROLES, CONFIG, task, shapes, folder / "store", seed=1).table
    return made


def test_patches_near_objects_show_them_beside_the_middle(stores):
    plain, asked = stores["segmentation"], stores["classification"]
    near = asked[asked["around"] == "near"]
    assert set(plain["around"]) == {"object", "negative", "tissue"}
    kept = asked[asked["around"] != "near"].reset_index(drop=True)
    assert kept[["slide", "x", "y", "kind"]].equals(plain[["slide", "x", "y", "kind"]]), "the others are the same"
    assert set(near["kind"]) == {"labelled", "propagated", "oracle"} and (near["tissue"] >= CONFIG.min_tissue).all()
    source = near[near["kind"] == "labelled"]
    assert len(source) > len(RECTANGLES) * CONFIG.per_object  # of two slides, less those on glass
    boxes = np.array(RECTANGLES, float)
    middle = source[["x", "y"]].to_numpy(float)[:, None] + 32  # patches are 64 level-0 pixels wide
    off = np.maximum(np.maximum(boxes[:, :2] - middle, middle - boxes[:, 2:]), 0).max(2).min(1)
    assert (off <= 33).all(), "no further from an object than half a patch"
    assert (off > 0).mean() > 0.4 and (source["n_objects"] > 0).mean() > 0.8
