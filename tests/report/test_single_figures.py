"""Single figures: every kind can be drawn, is legible, and shows the numbers it says; what lacks is named."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
from long_names import long_run
from make_run import make_run
from matplotlib.figure import Figure
from matplotlib.text import Text
from overlaps import faults, touches_the_axis

from stainda.errors import StaindaError
from stainda.evaluation import Ranked, bland_altman, froc, ranked_at, read_records
from stainda.report import catalogue, comparison_figures, make_plot, plot, registered_scores, save_plot, view
from stainda.report.comparing import compare_runs
from stainda.report.evidence_figures import free_response, froc_steps
from stainda.report.figures import apart
from stainda.report.registered_evidence import detection_table, evidence_rows, patient_pairs
from stainda.report.registered_scores import worst_rows
from stainda.report.registered_search import regret_table
from stainda.report.rotation_matrix import Matrix, sources_to_targets
from stainda.report.search_tables import importance_table
from stainda.report.study_view import NotDrawable, StudyView, axis_limits
from stainda.report.summary_text import count

NAMES = ("source_only", "macenko", "dann", "oracle")


KINDS = [name for name, _ in catalogue() if name not in ("label_curve", "confusion_objects", "confusion_pixels")]
"""All but those of studies with several shares of labels or several classes: tests/study/test_few_labels.py and
test_classes_of_a_study.py draw them."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    run = make_run(
        tmp_path_factory.mktemp("single") / "run", test_patients=6, stains=("PAS", "SR", "CD68"), strategies=NAMES,
        trials=9, seeds=1, failed_job=False, registration=False,
    )  # fmt: skip
    return view(run)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_legible_and_says_how_many_it_is_made_of(seen, kind):
    made = make_plot(seen, kind)
    assert len(made.frame) and made.caption.endswith(".") and made.alt.endswith(".")
    assert "n\u00a0=" in made.caption or "n =" in made.caption or "n ≤" in made.caption
    figure = made.figure
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip():
            continue
        assert text.get_fontsize() >= 7, text.get_text()
    for place in figure.axes:
        if place.get_visible():
            box = place.get_tightbbox()
            assert box.x0 >= -2 and box.y0 >= -2 and box.x1 <= width + 2 and box.y1 <= height + 2, "text is cut off"
            for axis in (place.xaxis, place.yaxis):
                _tick_labels_stand_apart(axis)


@pytest.mark.parametrize("kind", KINDS)
def test_no_words_of_any_kind_lie_over_each_other(seen, kind):
    assert faults(make_plot(seen, kind).figure) == []


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return view(
        long_run(tmp_path_factory.mktemp("long") / "run", test_patients=12)
    )  # from 6 in a domain it has a share


@pytest.mark.parametrize("kind", KINDS)
def test_long_names_of_twelve_domains_lie_over_nothing(long, kind):
    assert len([*long.analysis.sources, *long.analysis.targets]) == 12
    made = make_plot(long, kind)
    assert faults(made.figure) == []
    if kind == "worst_domain":
        place = made.figure.axes[0]
        names = [text for text in place.texts if text.get_text().strip()]
        assert len(names) == 5 and not any(touches_the_axis(place, text) for text in names)


def test_long_names_in_the_matrices_of_rotations_and_of_several_studies(long):
    domains = [*long.analysis.sources, *long.analysis.targets]
    rows = {f"from_{name}": f"from {name}" for name in domains[:4]}
    pairs = pd.DataFrame(
        [
            {"strategy": name, "rotation": rotation, "domain": domain, "role": "target", "mean": 0.5}
            for name in ("source_only", "oracle")
            for rotation in rows
            for domain in domains
        ]
    )
    matrix = Matrix(pairs, ("source_only", "oracle"), rows, domains, (0.0, 1.0))
    drawn = sources_to_targets(matrix, long.look, "Dice")
    assert faults(drawn) == []
    found = compare_runs(
        [long.run.folder, shutil.copytree(long.run.folder, long.run.folder.with_name("another study"))]
    )
    for make in (comparison_figures.studies, comparison_figures.paired):
        figure, _, _ = make(found, "95 %")
        assert faults(figure) == []
    figure, _, _ = comparison_figures.source_to_target(found)
    assert faults(figure) == []


@pytest.mark.parametrize("kind", KINDS)
def test_strategies_that_a_figure_leaves_out_are_counted_in_its_caption(seen, kind, monkeypatch):
    left = []

    def few(self, names, most, measure="dice"):
        present = self.look.present(names)
        left.append(len(present) - 2)
        return present[:2]

    monkeypatch.setattr(StudyView, "few", few)
    caption = make_plot(seen, kind).caption
    for number in left:
        words = {1: "one strategy", 2: "two strategies"}
        assert number <= 0 or words[number] in caption or f"{number} strategies" in caption, caption


@pytest.mark.parametrize("limit", [{"MOST_PANELS": 2}, {"MOST_MARKS": 5}])
@pytest.mark.parametrize("kind", ["forest", "gap_closed"])
def test_domains_that_a_figure_leaves_out_are_counted_in_its_caption(seen, kind, limit, monkeypatch):
    rows = type(seen).rows

    def given(self, *which):  # a share in every domain, which three patients in each are too few for
        table = rows(self, *which)
        return table.assign(gap_closed=table["gap_closed"].fillna(0.5)) if "gaps" in which else table

    monkeypatch.setattr(type(seen), "rows", given)
    whole = make_plot(seen, kind)
    for name, most in limit.items():
        monkeypatch.setattr(registered_scores, name, most)
    made = make_plot(seen, kind)
    left = _panels(whole.figure) - _panels(made.figure)
    assert left > 0 and "Not drawn" not in whole.caption
    assert count(left, "domain") in made.caption or f"{left} single domains" in made.caption
    assert "No patient" not in made.caption and "test patients" in made.caption


def _panels(figure):
    return sum(place.get_visible() and bool(place.lines or place.collections) for place in figure.axes)


def test_a_figure_with_words_over_words_is_found_out():
    figure = Figure(figsize=(3, 3))
    place = figure.subplots()
    place.text(0.5, 0.5, "one over")
    place.text(0.52, 0.5, "the other")
    assert any("one over" in fault for fault in faults(figure))


def test_a_curve_that_goes_on_beyond_the_axis_has_an_arrowhead_with_where_it_ends(seen):
    ranked = Ranked(np.linspace(1, 0, 100), np.arange(100) % 5 == 0, 25)
    figure = free_response({"dann": (ranked, 2)}, seen.look, (0.25, 1, 8))
    marks = [text.get_text() for text in figure.findobj(Text) if text.get_gid() == "off-scale"]
    assert marks == ["0.80 at 40"]
    for line in figure.axes[0].lines:
        assert max(line.get_xdata()) <= 8 * 1.1 + 1e-9


def test_no_value_of_a_measure_lies_outside_its_axis():
    rows = pd.DataFrame({"mean": [0.4, -0.2], "low": [0.2, -0.5], "high": [0.6, 0.1]})
    low, high = axis_limits("dice", rows)
    assert low == -0.5 and high == 1.0


def _tick_labels_stand_apart(axis):
    boxes = [
        tick_label.get_window_extent()
        for tick_label in axis.get_ticklabels()
        if tick_label.get_visible() and tick_label.get_text()
    ]
    low, high = ("x0", "x1") if axis.axis_name == "x" else ("y0", "y1")
    boxes = sorted(boxes, key=lambda box: getattr(box, low))
    for first, second in itertools.pairwise(boxes):
        assert getattr(first, high) <= getattr(second, low) + 1, f"tick labels of {axis.get_label_text()} overlap"


def test_strategies_stand_in_the_order_of_the_study_in_every_figure(seen):
    order = [seen.run.label(name) for name in NAMES]
    for kind in ("forest", "effects", "variance", "worst_domain"):
        labels = [text.get_text() for text in make_plot(seen, kind).figure.axes[0].get_yticklabels()]
        assert labels == [one for one in order if one in labels] and len(labels) >= 3, kind


def test_a_figure_is_saved_with_its_numbers_and_the_same_figure_is_the_same_file(seen, tmp_path):
    first = save_plot(make_plot(seen, "differences", "object_f1"), tmp_path / "a" / "one.svg").read_bytes()
    second = save_plot(make_plot(seen, "differences", "object_f1"), tmp_path / "b" / "one.svg").read_bytes()
    assert first == second and b"<svg" in first
    table = pd.read_csv(tmp_path / "a" / "one.csv")
    rows = seen.rows("object_f1", table="patients")
    assert np.allclose(table["value"], rows.loc[rows["domain"] == "all targets", "value"])
    with pytest.raises(StaindaError, match=r"\.svg, \.png, \.pdf"):
        save_plot(make_plot(seen, "differences"), tmp_path / "one.bmp")


@pytest.mark.parametrize(
    ("kind", "metric", "selection", "words"),
    [
        ("forrest", "dice", "source_validation", "Did you mean 'forest'"),
        ("forest", "dise", "source_validation", "Did you mean 'dice'"),
        ("forest", "dice", "oracle", "oracle_selection"),
        ("forest", "iou", "last", "there is no 'iou' under the selection rule 'last'"),
        ("forest", "dice", "serial_agreement", "chose nothing in this study"),
        ("froc", "dice", "last", "holds the best checkpoints alone"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(seen, kind, metric, selection, words):
    with pytest.raises(StaindaError) as error:
        plot(seen, kind, metric, selection)
    assert words in str(error.value)


def test_a_run_without_evidence_or_with_one_patient_says_what_lacks(tmp_path):
    run = make_run(
        tmp_path / "run", test_patients=1, stains=("PAS", "SR"), centres=("A",), strategies=("source_only", "oracle"),
        registration=False, trials=1, seeds=1, failed_job=False, evidence=False,
    )  # fmt: skip
    one = view(run)
    for kind, words in {
        "reliability": "there is no probabilities.parquet", "counts": "there is no objects.parquet",
        "domain_gap": "there is no domain_gap.csv", "critical_difference": "one patient", "effects": "two patients",
        "worst_domain": "fewer than two target domains", "importance": "finished trials",
        "parallel": "finished trials",
    }.items():  # fmt: skip
        with pytest.raises(NotDrawable) as error:
            plot(one, kind)
        assert words in str(error.value), kind


def test_regret_is_the_oracle_minus_the_rule_and_never_negative_for_a_measure_it_selects_by(seen):
    table = regret_table(seen, "dice")
    results = seen.analysis.results
    rows = results[(results["measure"] == "dice") & (results["domain"] == "all targets")]
    means = rows.pivot_table(index="strategy", columns="selection", values="mean")
    row = table[(table["strategy"] == "dann") & (table["selection"] == "last")].iloc[0]
    assert row["regret"] == pytest.approx(means.loc["dann", "oracle_selection"] - means.loc["dann", "last"])
    assert (table["regret"] >= -1e-9).all()
    assert set(table["selection"]) >= {"source_validation", "last", "entropy", "mmd"}


def test_the_worst_domain_is_the_lowest_mean_and_for_distances_the_highest(seen):
    low, high = worst_rows(seen, "dice", "source_validation"), worst_rows(seen, "hausdorff_95", "source_validation")
    for name in NAMES:
        mine = low[low["strategy"] == name]
        assert mine.loc[mine["worst"], "mean"].item() == mine["mean"].min()
        far = high[high["strategy"] == name]
        assert far.loc[far["worst"], "mean"].item() == far["mean"].max()


def test_objects_are_those_of_the_chosen_trial_and_curves_agree_with_their_tables(seen):
    rows = evidence_rows(seen, "objects", "source_validation")
    assert set(rows["trial"]) == {0} and set(rows["domain"]) == set(seen.analysis.targets)
    table = detection_table(seen, "source_validation").set_index("strategy")
    mine = rows[rows["strategy"] == "dann"]
    slides = mine[mine["kind"] == "slide"]
    n = slides["area_um2"].sum() / 1e6
    assert table.loc["dann", "tissue_mm2"] == pytest.approx(n) and len(slides) == len(
        slides[["seed", "slide"]].drop_duplicates()
    )
    false, sensitivity = froc_steps(ranked_at(mine), n)
    for rate, value in zip((0.25, 0.5, 1.0), froc(ranked_at(mine), n, (0.25, 0.5, 1.0)), strict=True):
        assert sensitivity[false <= rate].max() == pytest.approx(value) == table.loc["dann", f"froc_{rate:g}"]
    assert table.loc["dann", "annotated"] == mine["kind"].isin(["hit", "missed"]).sum()


def test_counts_per_patient_are_counted_objects(seen):
    rows = evidence_rows(seen, "objects", "source_validation")
    pairs, agreements = patient_pairs(seen, rows, "counts")
    mine = rows[rows["strategy"] == "oracle"]
    found = mine[mine["kind"].isin(["hit", "false"])].groupby("patient").size()
    there = mine[mine["kind"].isin(["hit", "missed"])].groupby("patient").size()
    assert pairs["oracle"]["found"].tolist() == found.tolist()
    assert agreements["oracle"].bias == pytest.approx((found - there).mean())
    assert agreements["oracle"] == bland_altman(found.to_numpy(), there.to_numpy())


def test_the_setting_that_decides_is_the_important_one():
    draw = np.random.default_rng(1)
    rate, weight = 10 ** draw.uniform(-4, -2, 30), draw.uniform(0, 1, 30)
    trials = pd.DataFrame({"strategy": "dann", "rate": rate, "weight": weight, "value": np.log10(rate)})
    table = importance_table(trials, ["rate", "weight"]).set_index("setting")["importance"]
    assert table["rate"] > 0.9 and table.sum() == pytest.approx(1)
    assert importance_table(trials.head(7), ["rate", "weight"]).empty


def test_a_lower_distance_ranks_first_and_counts_as_better(seen):
    found = seen.insights("hausdorff_95")
    ranks = dict(zip(found.strategies, found.ranking.ranks, strict=True))
    means = seen.overall("hausdorff_95")["mean"]
    assert ranks["dann"] < ranks["source_only"] and means["dann"] < means["source_only"]
    effect = found.effects.set_index("strategy").loc["oracle"]
    assert effect["hedges_g"] > 0 and effect["share_higher"] == 1


def test_labels_are_moved_apart_in_their_order_and_stay_inside():
    placed = apart(np.array([0.5, 0.51, 0.5, 1.0]), (0.0, 1.0), 0.1)
    assert np.diff(np.sort(placed)).min() >= 0.1 - 1e-12 and placed.max() <= 1
    assert placed[0] < placed[2] < placed[1] < placed[3]
    far = np.array([0.1, 0.9])
    assert np.array_equal(apart(far, (0.0, 1.0), 0.1), far)


def test_the_figures_read_only_records_and_leave_the_run_as_it_was(seen):
    before = read_records(seen.run.folder / "records.parquet")
    make_plot(seen, "slopes")
    pd.testing.assert_frame_equal(before, read_records(seen.run.folder / "records.parquet"))
    assert not (seen.run.folder / "report").exists()


def test_sizes_without_probabilities_have_one_panel():
    from stainda.report.figures import Look
    from stainda.report.statistic_figures import effects

    look = Look(("plain", "dann", "adabn"), {}, "plain", "", frozenset())
    table = pd.DataFrame(
        {
            "strategy": ["dann", "adabn"],
            "hedges_g": [1.0, 2.0],
            "p_worse": np.nan,
            "p_equal": np.nan,
            "p_better": np.nan,
        }
    )
    assert len(effects(table, look).axes) == 1
    known = table.assign(p_worse=[0.1, np.nan], p_equal=[0.2, np.nan], p_better=[0.7, np.nan])
    assert len(effects(known, look).axes) == 2
