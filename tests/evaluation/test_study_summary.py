"""The tables of a study: numbers put in come out, and nothing is said beyond them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from record_makers import counts_for, rows_of, study_config, study_records
from scipy import stats

from stainda.config import ProtocolConfig
from stainda.errors import RecordError
from stainda.evaluation import analyse, as_records, gather_records, make_records, one_rotation, score_slide
from stainda.evaluation.evidence import SLIDE_COLUMNS
from stainda.evaluation.insights import insights

MEANS = {
    "source_only": {"PAS@A": 0.9, "SR@A": 0.4, "CD68@A": 0.3},
    "dann": {"PAS@A": 0.88, "SR@A": 0.7, "CD68@A": 0.6},
    "oracle": {"PAS@A": 0.9, "SR@A": 0.85, "CD68@A": 0.8},
}


def statistics(records, config=None):
    """The analysis of a study of one rotation."""
    config = config or study_config()
    return analyse([one_rotation(records, config)], config)


@pytest.fixture(scope="module")
def analysis():
    return statistics(study_records(MEANS))


def cell(table, **where):
    rows = table
    for column, value in {"selection": "source_validation", "measure": "dice", **where}.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_means_of_the_made_up_study_come_out_again(analysis):
    for strategy, domains in MEANS.items():
        for domain, mean in domains.items():
            row = cell(analysis.results, strategy=strategy, domain=domain)
            assert row["mean"] == pytest.approx(mean, abs=1e-9)
            assert row["low"] < mean < row["high"]
            assert (row["n_patients"], row["n_seeds"]) == (6, 2)
            assert (row["stain"], row["centre"]) == tuple(domain.split("@"))
    overall = cell(analysis.results, strategy="dann", domain="all targets")
    assert overall["mean"] == pytest.approx(0.65) and overall["role"] == "target" and overall["stain"] == "*"


def test_an_interval_ends_where_the_measure_does():
    """Scores near 1 that vary: a mean beyond 1 is not possible, and no interval holds one."""
    near = {name: {**of, "SR@A": 0.97} for name, of in MEANS.items()}
    table = statistics(study_records(near, spread=0.2)).results
    row = cell(table, strategy="dann", domain="SR@A")
    assert row["high"] == 1.0 and 0.5 < row["low"] < row["mean"] < 1.0
    assert cell(table, strategy="dann", domain="CD68@A")["high"] < 1.0


def test_the_results_table_has_the_promised_columns_first():
    table = statistics(study_records(MEANS)).results
    assert list(table.columns)[:10] == [
        "strategy", "stain", "centre", "selection", "measure", "mean", "low", "high", "n_patients", "n_seeds",
    ]  # fmt: skip
    pd.testing.assert_frame_equal(table, statistics(study_records(MEANS)).results)


def test_paired_differences_do_not_contain_the_spread_between_patients(analysis):
    row = cell(analysis.differences, strategy="dann", domain="all targets")
    assert row["difference"] == pytest.approx(0.3) and row["interval_kind"] == "interval"
    # patients gain alike, so all that varies is training: 0.01 apart twice, of both strategies
    error = np.sqrt(2 * (0.01**2 / 2) / 2)
    half = stats.t.ppf(0.975, 2) * error
    assert (row["low"], row["high"]) == pytest.approx((0.3 - half, 0.3 + half))
    assert row["p"] == pytest.approx(2 * stats.t.sf(0.3 / error, 2))
    assert row["p_holm"] == row["p"], "the ceiling is no member of the family"
    by_domain = cell(analysis.differences, strategy="dann", domain="SR@A")
    assert by_domain["p_holm"] == pytest.approx(2 * by_domain["p"])
    ceiling = cell(analysis.differences, strategy="oracle", domain="all targets")
    assert ceiling["family"] == "ceiling" and np.isfinite(ceiling["p"]) and np.isnan(ceiling["p_holm"])


def test_gap_closed_is_the_share_of_the_way_to_the_ceiling(analysis):
    row = cell(analysis.gaps, strategy="dann", domain="SR@A")
    assert row["gap_closed"] == pytest.approx(0.3 / 0.45) and row["gap"] == pytest.approx(0.45)
    assert row["low"] < row["gap_closed"] < row["high"] and row["interval_kind"] == "interval"


@pytest.mark.parametrize(
    ("patients", "ceiling", "spread", "reason"),
    [
        (2, 0.85, 0.0, "2 patients: too few for a share"),
        (5, 0.85, 0.0, "5 patients: too few for a share"),
        (8, 0.41, 0.2, "within its own uncertainty"),
        (8, 0.405, 0.0, "practically nothing"),
        (8, 0.35, 0.0, "no gap: the ceiling is not better"),
    ],
)
def test_no_share_of_a_gap_that_is_not_known(patients, ceiling, spread, reason):
    """Cells once read -915 % and 1167 % where the gap was next to nothing, and 108 % from two patients."""
    rng = np.random.default_rng(patients)
    rows = []
    for strategy, mean in (("source_only", 0.4), ("dann", 0.7), ("oracle", ceiling)):
        for patient in range(patients):
            moved = float(np.clip(mean + spread * rng.normal(), 0.01, 0.99))
            for seed in (0, 1):
                rows += rows_of(strategy, "SR@A", f"p{patient}", counts_for(moved + 0.0001 * seed), seed=seed)
    row = cell(
        statistics(as_records(pd.DataFrame(rows))).gaps,
        strategy="dann",
        domain="SR@A",
    )
    assert reason in row["note"] and row["interval_kind"] == "none"
    assert np.isnan(row[["gap_closed", "low", "high"]].astype(float)).all()


def test_a_gap_of_distances_is_closed_downwards():
    rows = []
    for strategy, mean in (("source_only", 100.0), ("dann", 70.0), ("oracle", 40.0)):
        for patient in range(7):
            for seed in (0, 1):
                one = rows_of(strategy, "SR@A", f"p{patient}", counts_for(0.5), seed=seed)[0]
                value = mean + 2 * patient + 0.1 * seed
                rows.append(
                    {**one, "measure": "hausdorff_95", "value": value, "tp": np.nan, "fp": np.nan, "fn": np.nan}
                )
    found = statistics(as_records(pd.DataFrame(rows)))
    assert cell(found.gaps, measure="hausdorff_95", strategy="dann", domain="SR@A")["gap_closed"] == pytest.approx(0.5)


def test_no_gap_is_claimed_where_the_ceiling_is_not_above_the_baseline():
    means = {**MEANS, "oracle": {"PAS@A": 0.9, "SR@A": 0.35, "CD68@A": 0.8}}
    row = cell(
        statistics(study_records(means)).gaps,
        strategy="dann",
        domain="SR@A",
    )
    assert np.isnan(row["gap_closed"]) and "no gap" in row["note"]


def test_one_patient_is_no_cohort():
    found = statistics(study_records(MEANS, patients=["p1"], spread=0))
    row = cell(found.results, strategy="dann", domain="SR@A")
    assert row["mean"] == pytest.approx(0.7) and np.isnan(row["low"]) and row["note"] == "one patient: no interval"
    row = cell(found.differences, strategy="dann", domain="all targets")
    assert np.isnan(row["p"]) and row["note"] == "one patient: no interval"
    assert "too few" in cell(found.gaps, strategy="dann", domain="SR@A")["note"]


def test_few_patients_have_a_range_and_no_test():
    found = statistics(study_records(MEANS, patients=["a", "b", "c", "d"], spread=0.04))
    row = cell(found.results, strategy="dann", domain="SR@A")
    assert (row["low"], row["high"]) == pytest.approx((0.66, 0.74)) and row["interval_kind"] == "range"
    row = cell(found.differences, strategy="dann", domain="SR@A")
    assert row["interval_kind"] == "range" and "4 patients: their range, no interval" in row["note"]
    assert np.isnan(row["p"]) and np.isnan(row["p_holm"])


def test_one_training_has_the_range_of_the_patients_and_no_test():
    found = statistics(study_records(MEANS, seeds=(0,)))
    share = cell(found.gaps, strategy="dann", domain="SR@A")
    assert np.isfinite(share["gap_closed"]) and np.isnan(share["low"]) and share["interval_kind"] == "none"
    assert "one training each" in share["note"]
    for table in (found.results, found.differences):
        row = cell(table, strategy="dann", domain="SR@A")
        assert row["interval_kind"] == "range" and "one training each" in row["note"]
        assert row["low"] <= row["high"]
    assert found.differences["p"].isna().all() and found.differences["p_holm"].isna().all()


def test_strategies_are_compared_where_both_have_a_score_and_what_was_dropped_is_counted():
    """A strategy that finds nothing in the hard domain once won on the easy one alone."""
    rows = []
    for patient in range(6):
        for seed in (0, 1):
            for domain, base, other in (("SR@A", 20.0, 22.0), ("CD68@A", 200.0, np.nan)):
                for strategy, value in (("source_only", base), ("dann", other)):
                    one = rows_of(strategy, domain, f"p{patient}", counts_for(0.5), seed=seed)[0]
                    value = value + patient + seed
                    rows.append(
                        {**one, "measure": "hausdorff_95", "value": value, "tp": np.nan, "fp": np.nan, "fn": np.nan}
                    )
    found = statistics(as_records(pd.DataFrame(rows)))
    row = cell(found.differences, measure="hausdorff_95", strategy="dann", domain="all targets")
    assert row["difference"] == pytest.approx(2.0), "on SR@A, where both have a score"
    assert "6 of 12 scores of a patient in a domain dropped" in row["note"]
    result = cell(found.results, measure="hausdorff_95", strategy="dann", domain="all targets")
    assert "over 6 of 12 scores" in result["note"]
    whole = cell(found.results, measure="hausdorff_95", strategy="source_only", domain="all targets")
    assert "over" not in whole["note"]
    looked = insights(found, study_config(), "hausdorff_95")
    assert looked.ranking.ranks.tolist() == [1.0, 2.0], "nothing found is no first rank"


def test_a_strategy_that_finds_nothing_is_last_on_every_measure_and_drops_no_cell():
    """Of six patients in two domains; distances and precision once left out the slides on which it found nothing."""
    truth = np.zeros((20, 30), np.uint8)
    truth[5:12, 5:12] = 1
    near, nothing = np.roll(truth, 2, axis=1), np.zeros_like(truth)
    tables = []
    for patient in range(6):
        for domain in ("SR@A", "CD68@A"):
            for strategy in ("source_only", "dann"):
                found = nothing if strategy == "dann" and domain == "CD68@A" else near
                for seed in (0, 1):
                    scores = score_slide(found, truth, ("glomerulus",), um_per_px=2.0)
                    where = rows_of(strategy, domain, f"p{patient}", counts_for(0.5), seed=seed)[0]
                    kept = {name: where[name] for name in SLIDE_COLUMNS if name != "checkpoint"}
                    tables.append(make_records(scores, checkpoint="best", **kept))
    found = statistics(gather_records(tables))
    diagonal = np.hypot(20, 30) * 2.0
    for measure, better in (
        ("hausdorff_95", -1),
        ("surface_distance", -1),
        ("precision", 1),
        ("recall", 1),
        ("dice", 1),
    ):
        both = [
            cell(found.results, measure=measure, strategy=name, domain="all targets")
            for name in ("source_only", "dann")
        ]
        assert better * (both[0]["mean"] - both[1]["mean"]) > 0, measure
        row = cell(found.differences, measure=measure, strategy="dann", domain="all targets")
        assert row["n_patients"] == 6 and "dropped" not in row["note"] and "over" not in both[1]["note"], measure
    shift = cell(found.results, measure="hausdorff_95", strategy="source_only", domain="CD68@A")["mean"]
    missed = cell(found.results, measure="hausdorff_95", strategy="dann", domain="all targets")["mean"]
    assert missed == pytest.approx((shift + diagonal) / 2), "the mean with the diagonal, not of the slides it found"
    assert cell(found.results, measure="precision", strategy="dann", domain="CD68@A")["mean"] == 0


def test_slides_of_a_patient_are_summed_and_patients_count_equally():
    rows = rows_of("source_only", "SR@A", "p1", (90, 10, 10), slide="a") + rows_of(
        "source_only", "SR@A", "p1", (0, 100, 300), slide="b"
    )
    rows += rows_of("source_only", "SR@A", "p2", (50, 50, 50), slide="c")
    table = statistics(as_records(pd.DataFrame(rows)), study_config(["source_only"])).results
    expected = np.mean([180 / (180 + 110 + 310), 0.5])
    assert cell(table, domain="SR@A")["mean"] == pytest.approx(expected)


def test_patients_without_a_score_and_missing_patients_are_told():
    rows = []
    for patient in ("p1", "p2", "p3"):
        rows += rows_of("source_only", "SR@A", patient, (0, 0, 0) if patient == "p3" else counts_for(0.5))
        if patient != "p2":
            rows += rows_of("dann", "SR@A", patient, counts_for(0.6))
    table = statistics(as_records(pd.DataFrame(rows))).results
    assert "1 patient without a score" in cell(table, strategy="source_only", domain="SR@A")["note"]
    row = cell(table, strategy="dann", domain="SR@A")
    assert row["n_patients"] == 2 and "1 of 3 patients not evaluated" in row["note"]


def test_several_classes_have_their_own_rows_and_a_mean():
    rows = []
    for patient in ("p1", "p2"):
        rows += rows_of("source_only", "SR@A", patient, counts_for(0.4), cls="papilla")
        rows += rows_of("source_only", "SR@A", patient, counts_for(0.8), cls="vessel_lumen")
    config = study_config(["source_only"], task={"classes": ("papilla", "vessel_lumen")})
    table = statistics(as_records(pd.DataFrame(rows)), config).results
    means = [cell(table, domain="SR@A", **{"class": name})["mean"] for name in ("papilla", "vessel_lumen", "all")]
    assert means == pytest.approx([0.4, 0.8, 0.6])


def test_the_oracle_rule_is_its_own_selection_and_never_below_the_default(analysis):
    both = analysis.results[analysis.results["measure"] == "dice"].pivot_table(
        index=["strategy", "domain"], columns="selection", values="mean"
    )
    assert (both["oracle_selection"] >= both["source_validation"] - 1e-12).all()


def test_without_test_records_there_is_an_error_not_an_empty_table():
    rows = rows_of("source_only", "PAS@A", "v", counts_for(0.5), split="val")
    with pytest.raises(RecordError, match="no records of test patients"):
        statistics(as_records(pd.DataFrame(rows)))


def test_results_draw_nothing_so_that_a_seed_changes_none():
    records = study_records({name: dict(MEANS[name]) for name in MEANS}, spread=0.1, seeds=(0, 1))
    one, other = (statistics(records, study_config(seed=seed)) for seed in (1, 99))
    for name in ("results", "differences", "gaps"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_a_study_of_one_strategy_has_empty_tables_of_numbers():
    config = study_config(["dann"], baseline="source_only")
    found = statistics(study_records({"dann": MEANS["dann"]}), config)
    assert found.gaps.empty and found.differences.empty and len(found.results)
    assert not np.isfinite(found.gaps["gap_closed"]).any() and not np.isfinite(found.differences["difference"]).any()


def test_where_every_domain_teaches_all_may_choose_and_none_is_a_target():
    """Scheme pooled: it has no list of sources; once its validation records were taken for a leak."""
    config = study_config(("source_only", "greyscale"), protocol=ProtocolConfig(scheme="pooled"))
    rows = [
        row
        for strategy, mean in (("source_only", 0.6), ("greyscale", 0.5))
        for domain in ("PAS@A", "SR@A")
        for split, patients in (("val", ("V1", "V2")), ("test", ("T1", "T2", "T3")))
        for patient in patients
        for row in rows_of(strategy, domain, patient, counts_for(mean), split=split)
    ]
    found = statistics(as_records(pd.DataFrame(rows)), config)
    assert found.sources == ("PAS@A", "SR@A") and found.targets == ()
    assert set(found.results["role"]) == {"source"}
    assert cell(found.results, strategy="source_only", domain="all sources")["mean"] == pytest.approx(0.6, abs=1e-3)
