"""Average precision against pycocotools, FROC and panoptic quality by hand, and the tables of objects."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely import Point, box

from stainda.config import EvaluationConfig
from stainda.errors import RecordError
from stainda.evaluation import (
    OBJECT_COLUMNS,
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
    read_evidence,
    score_slide,
    single_mean,
)
from stainda.evaluation.dataset_precision import THRESHOLDS, dataset_precision, precision_table
from stainda.evaluation.detection import COCO_THRESHOLDS, aggregated_jaccard
from stainda.objects.matching import OverlapPairs


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
        together += ranked_detections(OverlapPairs.of(there, seen), scores, iou, match_objects(there, seen, iou))
    assert average_precision(together) == pytest.approx(coco_precision(slides, iou), abs=1e-9)


def test_a_detection_on_an_object_that_is_left_out_counts_for_nothing():
    truth, found = [box(0, 0, 10, 10), box(50, 0, 60, 10)], [box(0, 0, 10, 10), box(50, 0, 60, 10)]
    matching = match_objects(truth, found, ignored=[box(45, -5, 70, 20)])
    ranked = ranked_detections(OverlapPairs.of(truth, found), np.array([0.5, 0.9]), 0.5, matching)
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


def test_objects_of_slides_become_counts_and_areas_also_where_nothing_is():
    where = {name: "x" for name in ("study", "strategy", "checkpoint", "job", "stain", "centre", "domain", "split")}
    one = object_rows(shapes([box(0, 0, 10, 10), box(50, 0, 60, 10)]), shapes([box(0, 0, 10, 10)], [0.8]),
                      ("glomerulus",), 2.0, 4e6, {**where, "slide": "a", "patient": "p"})  # fmt: skip
    two = object_rows(shapes([]), shapes([], []), ("glomerulus",), 2.0, 1e6, {**where, "slide": "b", "patient": "p"})
    table = pd.DataFrame([*one, *two])
    slides = counts_and_areas(table, ["slide"]).set_index("slide")
    assert slides.loc["a", ["found", "there"]].tolist() == [1, 2] and slides.loc["b", "there"] == 0
    assert slides.loc["a", "true_area_um2"] == 400
    patient = counts_and_areas(table, ["patient"])
    assert patient[["found", "there"]].to_numpy().tolist() == [[1, 2]]
    assert list(patient) == ["patient", "found", "there", "found_area_um2", "true_area_um2"], "no densities"
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


def test_glass_is_scored_neither_for_nor_against():
    """A slide of 90 % glass once had an error of .026 where its tissue has .257."""
    rng = np.random.default_rng(0)
    truth = np.zeros((20, 100), np.uint8)
    truth[:, :10] = rng.random((20, 10)) < 0.3
    tissue = np.zeros(truth.shape, bool)
    tissue[:, :10] = True
    probabilities = np.zeros((1, 20, 100))
    probabilities[0][tissue] = 0.56
    table = pd.DataFrame(probability_rows(probabilities, truth, ("glomerulus",), {"slide": "a"}, tissue))
    counts = probability_counts(table)
    assert counts.positive.sum() + counts.negative.sum() == 200
    error = abs(truth[tissue].mean() - 0.56)
    assert counts.calibration_error == pytest.approx(error)
    values = {one.measure: one.value for one in score_slide(probabilities, truth, ("glomerulus",), tissue=tissue)}
    assert values["ece"] == pytest.approx(error) and values["auroc"] == 0.5
    whole = {one.measure: one.value for one in score_slide(probabilities, truth, ("glomerulus",))}
    assert whole["ece"] < 0.15 * error and whole["auroc"] > 0.9, "what glass would make of it"
    truth[0, 50] = 1
    table = pd.DataFrame(probability_rows(probabilities, truth, ("glomerulus",), {"slide": "a"}, tissue))
    assert probability_counts(table).positive.sum() == truth.sum(), "an annotated pixel counts wherever it lies"


def test_the_ranking_is_made_of_all_candidates_of_all_slides():
    where = {name: "x" for name in ("study", "strategy", "checkpoint", "job", "stain", "centre", "domain", "split")}
    truth = shapes([box(0, 0, 10, 10), box(50, 0, 60, 10)])
    used, faint = shapes([box(0, 0, 10, 10)], [0.8]), shapes([box(0, 0, 10, 10), box(50, 0, 60, 10)], [0.8, 0.1])
    empty = shapes([], [])
    rows = []
    for slide, there, found, every in (
        ("a", truth, used, faint),
        ("b", shapes([]), empty, shapes([box(0, 0, 9, 9)], [0.3])),
    ):
        rows += object_rows(
            there, found, ("glomerulus",), 1.0, 1e6, {**where, "slide": slide, "patient": "p"}, candidates=every
        )
    ranked = ranked_at(pd.DataFrame(rows))
    assert ranked.score.tolist() == [0.8, 0.3, 0.1] and ranked.hit.tolist() == [True, False, True]
    assert average_precision(ranked) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert counts_and_areas(pd.DataFrame(rows), ["patient"])["found"].tolist() == [1], (
        "counts are of the objects in use"
    )
    old = pd.DataFrame([row for row in rows if row["kind"] != "candidate"])
    with pytest.raises(RecordError, match="no candidates below the threshold"):
        ranked_at(old)
    with pytest.raises(RecordError, match=r"no hits at IoU 0\.3"):
        ranked_at(pd.DataFrame(rows), 0.3)


def study_rows(patients, seeds=1):
    """Rows of objects of random slides, one per patient, and the slides, per training."""
    rows, slides = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        slides.append([random_slide(rng) for _ in range(patients)])
        for index, (there, found, scores) in enumerate(slides[-1]):
            where = {"strategy": "dann", "domain": "SR@A", "seed": seed, "patient": f"p{index}", "slide": f"s{index}"}
            every = shapes([box(*one) for one in found], scores)
            truth = shapes([box(*one) for one in there])
            rows += object_rows(truth, every.iloc[:0], ("glomerulus",), 1.0, 1e6, where, candidates=every)
    return pd.DataFrame(rows), slides


def test_one_training_has_the_range_of_the_average_precisions_of_the_patients():
    table, _ = study_rows(7, seeds=1)
    found = dataset_precision(table, "ap50", EvaluationConfig())
    alone = [dataset_precision(rows, "ap50", EvaluationConfig()).mean for _, rows in table.groupby("patient")]
    assert (found.low, found.high) == pytest.approx((np.nanmin(alone), np.nanmax(alone)))
    assert found.kind == "range" and "no interval and no test" in found.note


@pytest.mark.parametrize("measure", ["ap50", "ap75", "ap"])
def test_average_precision_of_a_data_set_equals_pycocotools_and_its_interval_the_jackknife_by_hand(measure, capsys):
    pytest.importorskip("pycocotools", reason="pycocotools is a test extra")

    def coco(slides):
        return np.mean([coco_precision(slides, iou) for iou in THRESHOLDS[measure]])

    table, trainings = study_rows(7, seeds=2)
    found = dataset_precision(table, measure, EvaluationConfig())
    whole = np.array([coco(slides) for slides in trainings])
    without = np.array([[coco(slides[:one] + slides[one + 1 :]) for one in range(7)] for slides in trainings])
    pseudo = 7 * whole[:, None] - 6 * without
    expected = single_mean(pseudo[..., None], EvaluationConfig())
    moved = whole.mean() - pseudo.mean()
    assert found.mean == pytest.approx(whole.mean(), abs=1e-9)
    assert found.low == pytest.approx(max(expected.low[0] + moved, 0), abs=1e-9)
    assert found.high == pytest.approx(min(expected.high[0] + moved, 1), abs=1e-9)
    assert (found.kind, found.n_patients, found.n_seeds) == ("interval", 7, 2) and found.low < found.mean < found.high


def test_an_object_taken_at_half_an_overlap_is_free_for_a_better_one_at_three_quarters():
    truth, rows = shapes([box(0, 0, 10, 10)]), []
    found = shapes([box(0, 0, 10, 6), box(0, 0, 10, 9)], [0.9, 0.5])
    rows += object_rows(truth, found.iloc[:0], ("glomerulus",), 1.0, 1e6, {"slide": "a"}, candidates=found)
    assert ranked_at(pd.DataFrame(rows)).hit.tolist() == [True, False]
    assert ranked_at(pd.DataFrame(rows), 0.75).hit.tolist() == [False, True]


def test_average_precision_of_few_patients_has_their_range_and_every_domain_its_row():
    table, _ = study_rows(5)
    found = dataset_precision(table, "ap50", EvaluationConfig())
    alone = [average_precision(ranked_at(one)) for _, one in table.groupby("patient")]
    assert (found.low, found.high, found.kind) == (np.nanmin(alone), np.nanmax(alone), "range")
    two = pd.concat([table, table.assign(domain="CD68@A", patient=table["patient"] + "b")])
    regions = [("SR@A", "target", ["SR@A"]), ("all targets", "target", ["SR@A", "CD68@A"])]
    rows = precision_table(two, regions, EvaluationConfig()).set_index(["domain", "measure"])
    assert len(rows) == 2 * 3 and rows.loc[("SR@A", "ap50"), "mean"] == found.mean
    assert rows.loc[("all targets", "ap50"), "annotated"] == 2 * found.annotated > 0
    assert rows.loc[("all targets", "ap50"), "mean"] == average_precision(ranked_at(two))


def test_candidates_of_an_earlier_version_cannot_be_ranked_and_the_rest_is_read(tmp_path):
    table, _ = study_rows(2)
    table.reindex(columns=[*OBJECT_COLUMNS]).drop(columns="hits").to_parquet(tmp_path / "objects.parquet")
    read = read_evidence(tmp_path / "objects.parquet", OBJECT_COLUMNS)
    assert set(read["kind"]) == {"slide", "missed"}


def test_an_annotated_point_is_hit_by_the_nearest_centre_within_the_distance():
    points = shapes([Point(0, 0), Point(100, 0), Point(200, 0)])
    found = shapes([box(1, -5, 11, 5), box(-1, -1, 1, 1), box(108, -5, 118, 5)], [0.9, 0.5, 0.7])
    matching = match_objects(points, found, 0.5, point_px=10)
    assert matching.truth.tolist() == [1, -1, -1], "the nearer of two; one of 13 px is too far"
    assert matching.predicted.tolist() == [-1, 0, -1] and matching.iou[0] == 1
    assert match_objects(points, found, 0.5, point_px=13).hits == 2
    assert match_objects(points, found, 0.3, point_px=10).hits == 1, "13 px is too far at any overlap"
    assert match_objects(points, found, 0.5).truth.tolist() == [-2, -2, -2], "without a distance points are left out"
    ranked = ranked_detections(OverlapPairs.of(points, found, 10), found["score"].to_numpy(), 0.5, matching)
    assert ranked.n_truth == 3 and ranked.hit.tolist() == [True, False, False]


def kumar(truth: np.ndarray, found: np.ndarray) -> float:
    """The algorithm of the paper on label maps, written down again."""
    intersection = union = 0
    used = set()
    for name in [one for one in np.unique(truth) if one]:
        mine = truth == name
        names = [one for one in np.unique(found[mine]) if one]
        if not names:
            union += mine.sum()
            continue
        best = max(names, key=lambda one: (mine & (found == one)).sum() / (mine | (found == one)).sum())
        intersection += (mine & (found == best)).sum()
        union += (mine | (found == best)).sum()
        used.add(best)
    union += sum((found == one).sum() for one in np.unique(found) if one and one not in used)
    return intersection / union


def test_the_aggregated_jaccard_index_by_hand_and_by_a_second_implementation():
    truth, found = [box(0, 0, 10, 10), box(50, 0, 60, 10)], [box(2, 0, 12, 10), box(90, 0, 95, 4)]
    # 80 in common of 120; 100 missed; 20 that nobody took
    assert aggregated_jaccard(truth, found, match_objects(truth, found)) == pytest.approx(80 / (120 + 100 + 20))
    assert np.isnan(aggregated_jaccard([], [], match_objects([], [])))
    assert aggregated_jaccard([], found, match_objects([], found)) == 0
    ignored = [box(45, -5, 100, 20)]
    assert aggregated_jaccard(truth, found, match_objects(truth, found, ignored=ignored)) == pytest.approx(80 / 120)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        maps = np.zeros((2, 60, 60), int)
        for map_ in maps:
            for name in range(1, 9):
                y, x, h, w = *rng.integers(0, 50, 2), *rng.integers(3, 12, 2)
                part = map_[y : y + h, x : x + w]
                if not part.any():
                    part[:] = name
        sides = []
        for map_ in maps:
            places = [np.argwhere(map_ == name) for name in np.unique(map_) if name]
            sides.append([box(p[:, 1].min(), p[:, 0].min(), p[:, 1].max() + 1, p[:, 0].max() + 1) for p in places])
        expected = kumar(*maps)
        assert aggregated_jaccard(*sides, match_objects(*sides)) == pytest.approx(expected)


def test_finding_nothing_has_the_worst_value():
    truth = np.zeros((30, 40), np.uint8)
    truth[5:15, 5:15] = 1
    nothing = {
        one.measure: one.value for one in score_slide(np.zeros_like(truth), truth, ("glomerulus",), um_per_px=2.0)
    }
    assert nothing["hausdorff_95"] == nothing["surface_distance"] == 100.0, "the diagonal of 30 x 40 pixels of 2 µm"
    assert nothing["precision"] == 0 == nothing["recall"] == nothing["dice"]
    false = {one.measure: one.value for one in score_slide(truth, np.zeros_like(truth), ("glomerulus",), um_per_px=2.0)}
    assert false["hausdorff_95"] == 100.0 and false["precision"] == 0 and np.isnan(false["recall"])
    empty = score_slide(np.zeros_like(truth), np.zeros_like(truth), ("glomerulus",), um_per_px=2.0)
    assert all(np.isnan(one.value) for one in empty)


@pytest.mark.parametrize(("patients", "kind"), [(8, "none"), (6, "none"), (3, "none")])
def test_average_precision_without_the_patient_who_has_all_objects_does_not_exist(patients, kind):
    """The seven others once gave an interval about nothing."""
    table, _ = study_rows(patients, seeds=2)
    first = table["patient"] == sorted(table["patient"].unique())[0]
    table = table[first | ~table["kind"].isin(["hit", "missed"])]
    table = table.assign(hits=table["hits"].where(first, 0.0))
    found = dataset_precision(table, "ap50", EvaluationConfig())
    assert np.isfinite(found.mean) and np.isnan([found.low, found.high]).all() and found.kind == kind
    assert found.note == "all annotated objects are of one patient: no interval"


def test_points_have_no_overlap_to_speak_of_on_empty_slides_either():
    nothing, labels = shapes([]), np.zeros((10, 10), np.uint8)
    scores = score_slide(labels, labels, ("glomerulus",), nothing, nothing, point_px=5.0, points=True)
    assert not {"aji", "panoptic_quality"} & {one.measure for one in scores}
