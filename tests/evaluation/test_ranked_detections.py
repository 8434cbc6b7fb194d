"""Average precision against pycocotools, FROC and panoptic quality by hand, and the tables of objects."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import box

from stainda.evaluation import (
    Ranked,
    average_precision,
    counts_and_areas,
    froc,
    match_objects,
    object_rows,
    panoptic_quality,
    probability_counts,
    probability_rows,
    ranked_at,
    ranked_detections,
)
from stainda.evaluation.detection import COCO_THRESHOLDS


def random_slide(rng, size=200):
    """Integer boxes, so that masks and polygons agree to the pixel."""

    def boxes(n):
        corner = rng.integers(0, size - 40, (n, 2))
        side = rng.integers(8, 40, (n, 2))
        return [(int(x), int(y), int(x + w), int(y + h)) for (x, y), (w, h) in zip(corner, side, strict=True)]

    truth = boxes(int(rng.integers(0, 7)))
    found = boxes(int(rng.integers(0, 5)))
    for x0, y0, x1, y1 in truth:
        if rng.random() < 0.8:
            dx, dy = (int(d) for d in rng.integers(-5, 6, 2))
            found.append((max(x0 + dx, 0), max(y0 + dy, 0), x1 + dx, y1 + dy))
    return truth, found, rng.permutation(len(found)) / max(len(found), 1)


def coco_precision(slides, iou):
    """AP of pycocotools at one threshold over all slides, its areas and detection limits set wide open."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, found = [], []
    for image, (there, seen, scores) in enumerate(slides):
        for x0, y0, x1, y1 in there:
            area = (x1 - x0) * (y1 - y0)
            truth.append({"id": len(truth) + 1, "image_id": image, "category_id": 1, "iscrowd": 0, "area": area,
                          "bbox": [x0, y0, x1 - x0, y1 - y0]})  # fmt: skip
        for (x0, y0, x1, y1), score in zip(seen, scores, strict=True):
            found.append({"image_id": image, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score})
    coco = COCO()
    coco.dataset = {"images": [{"id": i} for i in range(len(slides))], "categories": [{"id": 1}], "annotations": truth}
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
    evaluation.params.iouThrs = np.array([iou])
    evaluation.params.maxDets = [1000]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e9]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    return float(evaluation.eval["precision"].mean())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("iou", [0.3, 0.5, 0.75])
def test_average_precision_equals_pycocotools_over_several_slides(seed, iou, capsys):
    pytest.importorskip("pycocotools", reason="pycocotools is a test extra")
    rng = np.random.default_rng(seed)
    slides = [random_slide(rng) for _ in range(6)]
    together = Ranked(np.zeros(0), np.zeros(0, bool), 0)
    for truth, found, scores in slides:
        there, seen = [box(*one) for one in truth], [box(*one) for one in found]
        together += ranked_detections(there, seen, scores, iou, match_objects(there, seen, iou))
    assert average_precision(together) == pytest.approx(coco_precision(slides, iou), abs=1e-9)


def test_a_detection_on_an_object_that_is_left_out_counts_for_nothing():
    truth, found = [box(0, 0, 10, 10), box(50, 0, 60, 10)], [box(0, 0, 10, 10), box(50, 0, 60, 10)]
    matching = match_objects(truth, found, ignored=[box(45, -5, 70, 20)])
    ranked = ranked_detections(truth, found, np.array([0.5, 0.9]), 0.5, matching)
    assert ranked.n_truth == 1 and ranked.hit.tolist() == [True]
    assert average_precision(ranked) == 1
    assert np.isnan(average_precision(Ranked(np.array([0.5]), np.array([False]), 0)))
    assert average_precision(Ranked(np.zeros(0), np.zeros(0, bool), 3)) == 0


def test_sensitivity_at_rates_of_false_detections_by_hand():
    # over two slides: hit, false, hit, false, false, hit of four objects
    ranked = Ranked(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), np.array([1, 0, 1, 0, 0, 1], bool), 4)
    np.testing.assert_allclose(froc(ranked, 2, (0.25, 0.5, 1, 2)), [0.25, 0.5, 0.5, 0.75])
    tied = Ranked(np.array([0.9, 0.9]), np.array([True, False]), 1)
    np.testing.assert_allclose(froc(tied, 1, (0.5, 1)), [0.0, 1.0])
    assert np.isnan(froc(Ranked(np.zeros(0), np.zeros(0, bool), 0), 2)).all()


def test_panoptic_quality_is_the_mean_overlap_times_f1():
    truth, found = [box(0, 0, 10, 10), box(50, 0, 60, 10)], [box(2, 0, 12, 10), box(90, 0, 95, 5)]
    assert panoptic_quality(match_objects(truth, found)) == pytest.approx((8 / 12) * (2 / 4))
    assert np.isnan(panoptic_quality(match_objects([], []))) and panoptic_quality(match_objects([], found)) == 0


def shapes(geometries, scores=None):
    table = gpd.GeoDataFrame({"geometry": list(geometries), "class": ["glomerulus"] * len(geometries)})
    return table if scores is None else table.assign(score=scores)


def test_objects_of_slides_become_counts_areas_and_densities_also_where_nothing_is():
    where = {name: "x" for name in ("study", "strategy", "checkpoint", "job", "stain", "centre", "domain", "split")}
    one = object_rows(shapes([box(0, 0, 10, 10), box(50, 0, 60, 10)]), shapes([box(0, 0, 10, 10)], [0.8]),
                      ("glomerulus",), 2.0, 4e6, {**where, "slide": "a", "patient": "p"})  # fmt: skip
    two = object_rows(shapes([]), shapes([], []), ("glomerulus",), 2.0, 1e6, {**where, "slide": "b", "patient": "p"})
    table = pd.DataFrame([*one, *two])
    slides = counts_and_areas(table, ["slide"]).set_index("slide")
    assert slides.loc["a", ["found", "there"]].tolist() == [1, 2] and slides.loc["b", "there"] == 0
    assert slides.loc["a", "true_area_um2"] == 400 and slides.loc["a", "true_per_mm2"] == 0.5
    patient = counts_and_areas(table, ["patient"]).iloc[0]
    assert patient["tissue_mm2"] == 5 and patient["true_per_mm2"] == pytest.approx(2 / 5)
    ranked = ranked_at(table)
    assert ranked.n_truth == 2 and ranked.score.tolist() == [0.8] and ranked.hit.tolist() == [True]
    assert all(average_precision(ranked_at(table, iou)) == pytest.approx(51 / 101) for iou in COCO_THRESHOLDS)


def test_pixels_by_probability_leave_out_what_is_ignored():
    truth = np.array([[0, 1, 255], [1, 0, 0]], np.uint8)
    probabilities = np.array([[[0.1, 0.9, 0.9], [0.6, 0.62, 0.0]]], np.float32)
    table = pd.DataFrame(probability_rows(probabilities, truth, ("glomerulus",), {"slide": "a"}))
    counts = probability_counts(table)
    assert counts.positive.sum() == 2 and counts.negative.sum() == 3
    assert (counts.positive[12], counts.negative[12]) == (1, 1)
