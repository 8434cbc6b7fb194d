# ruff: noqa: E501
"""Named faults in statistical code, each of which some test must notice: a text of a file in place of another."""

from __future__ import annotations

from dataclasses import dataclass

E, S, T = "stainda/evaluation", "stainda/strategies", "stainda/training"
TESTS = {
    f"{E}/crossed.py": ("tests/evaluation/test_crossed_trainings.py",),
    f"{E}/widths.py": ("tests/evaluation/test_crossed_trainings.py",),
    f"{E}/effect.py": ("tests/evaluation/test_method_effects.py",),
    f"{E}/slide.py": ("tests/evaluation/test_ranked_detections.py",),
    f"{T}/effect.py": tuple(
        f"tests/training/test_training_effect.py::{name}"
        for name in (
            "test_the_ratio_is_of_what_is_added_to_the_plain_gradient",
            "test_a_reversed_gradient_counts_as_what_reaches_the_network",
            "test_every_domain_counts_alike_in_a_verdict",
            "test_positions_of_one_patch_count_once",
            "test_the_number_of_patches_gives_the_standard_error",
            "test_measurements_lie_evenly_over_the_steps",
            "test_every_epoch_is_measured_and_every_training_twelve_times",
            "test_the_scale_that_gives_the_share_is_found",
        )
    ),
    f"{E}/bootstrap.py": ("tests/evaluation/test_bootstrap_intervals.py",),
    f"{E}/summary.py": ("tests/evaluation/test_study_summary.py",),
    f"{E}/scores.py": ("tests/evaluation/test_study_summary.py", "tests/evaluation/test_crossed_trainings.py"),
    f"{E}/comparison.py": ("tests/evaluation/test_paired_comparison.py",),
    f"{E}/ranking.py": ("tests/evaluation/test_ranking_of_strategies.py",),
    f"{E}/equivalence.py": ("tests/evaluation/test_variance_and_power.py",),
    f"{E}/variance.py": ("tests/evaluation/test_variance_and_power.py",),
    f"{E}/domain_gap.py": ("tests/evaluation/test_variance_and_power.py",),
    f"{E}/insights.py": ("tests/evaluation/test_insights.py",),
    f"{E}/pooling.py": ("tests/evaluation/test_crossed_trainings.py",),
    f"{E}/metrics.py": ("tests/evaluation/test_pixel_metrics.py", "tests/evaluation/test_ranked_detections.py"),
    f"{E}/boundaries.py": ("tests/evaluation/test_curves_and_boundaries.py",),
    f"{E}/curves.py": ("tests/evaluation/test_curves_and_boundaries.py",),
    f"{E}/agreement.py": ("tests/evaluation/test_curves_and_boundaries.py",),
    f"{E}/detection.py": ("tests/evaluation/test_ranked_detections.py",),
    f"{E}/evidence.py": ("tests/evaluation/test_ranked_detections.py",),
    "stainda/objects/overlap.py": ("tests/objects/test_overlap.py",),
    "stainda/objects/assignment.py": ("tests/objects/test_assignment.py",),
    "stainda/objects/matching.py": (
        "tests/objects/test_object_matching.py",
        "tests/evaluation/test_ranked_detections.py",
    ),
    f"{E}/selection.py": ("tests/evaluation/test_selection_rules.py",),
    f"{E}/groups.py": ("tests/evaluation/test_target_label_groups.py",),
    f"{E}/thresholds.py": ("tests/evaluation/test_thresholds.py",),
    f"{E}/threshold_regret.py": ("tests/evaluation/test_threshold_regret.py",),
    f"{E}/convergence.py": ("tests/evaluation/test_convergence.py",),
    f"{E}/dataset_precision.py": ("tests/evaluation/test_ranked_detections.py",),
    f"{S}/align/support/weight_average.py": ("tests/strategies/test_own_swad.py",),
    f"{S}/align/support/gradient_reversal.py": ("tests/strategies/test_own_adversaries.py",),
    f"{S}/align/sliced_wasserstein.py": ("tests/strategies/test_align_discrepancy.py",),
    f"{S}/after/tent.py": ("tests/strategies/test_after_parts.py",),
    f"{T}/unsupervised.py": ("tests/training/test_unsupervised_scores.py",),
}
"""The tests that a fault in a file is shown to."""

SURVIVORS: dict[str, str] = {}
"""Mutants that no test can notice, and why."""


@dataclass(frozen=True)
class Mutant:
    """``old`` stands exactly once in the file."""

    name: str
    file: str
    old: str
    new: str


def _of(file: str, *faults: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(name, file, old, new) for name, old, new in faults]


MUTANTS = [
    *_of(
        f"{E}/crossed.py",
        ("variance of patients over n", "np.maximum(n * (n - 1), 1)", "np.maximum(n * n, 1)"),
        ("variance of trainings without correction", "runs.var(axis=0, ddof=1)", "runs.var(axis=0, ddof=0)"),
        ("variance of trainings not of their mean", "ddof=1)) / len(part)", "ddof=1))"),
        ("tested with one training", "& (min(result.trainings) > 1)", "& (max(result.trainings) > 0)"),
        ("interval from five patients", "enough = (n >= FEW_PATIENTS)", "enough = (n >= FEW_PATIENTS - 1)"),
        ("range of all but the highest", "np.nanmax(patients[:, few], axis=0)", "np.nanmedian(patients[:, few], axis=0)"),
        ("a share of nothing", "given = (np.abs(bottom) > width * (1 + 1e-9))", "given = (width == width)"),
        ("fieller of a gap without spread", "weights[0], weights[1] = 1.0, -ratio", "weights[0], weights[1] = 1.0, 0.0"),
        ("fieller with its ends exchanged", "for side in (-1.0, 1.0))", "for side in (1.0, -1.0))"),
        ("ends of a share too near", "beyond = outside(middle)", "beyond = outside(middle) | True"),
        ("a patient with one training is enough", "[np.isfinite(part).all(axis=0) for part in parts]", "[np.isfinite(part).any(axis=0) for part in parts]"),
        ("rest over all patients", "(len(part) - 1) * (n - 1) * len(part) * n", "(len(part) - 1) * n * len(part) * n"),
        ("rest with the trainings in it", "left = scores - runs[:, None] -", "left = scores -"),
        ("error that is not of the interval", "error[enough] = half / np.abs(", "error[enough] = half + 0 * np.abs("),
        ("p of one training", "if len(result.trainings) > 1:", "if True:"),
    ),
    *_of(
        f"{E}/widths.py",
        ("trainings left out", "np.maximum(self.people + self.net, self.runs.sum(axis=0))", "self.people"),
        ("rest twice", "self.runs.sum(axis=0) - self.rest, 0.0)", "self.runs.sum(axis=0), 0.0)"),
        ("less than trainings alone", "np.maximum(self.people + self.net, self.runs.sum(axis=0))", "(self.people + self.net)"),
        ("freedom of patients", "np.maximum(self.n - 1.0, 1.0)", "np.maximum(self.n, 1.0)"),
        ("freedom of trainings", "max(size - 1.0, 1.0)", "max(size, 1.0)"),
        ("Student's alone", "share = 0.5 if min(self.sizes) > 2 else 0.0", "share = 1.0"),
        ("two trainings as three", "share = 0.5 if min(self.sizes) > 2", "share = 0.5 if min(self.sizes) > 1"),
        ("three trainings as two", "share = 0.5 if min(self.sizes) > 2", "share = 0.5 if min(self.sizes) > 3"),
        ("one-sided p", "p[known] = 2 * ", "p[known] = 1 * "),
        ("p of identical differences", "2.0 ** (1.0 - self.n)", "2.0 ** (-1.0 * self.n)"),
        ("trainings with the quantile of patients", "special.stdtrit(self.freedom_of_trainings, tail)", "special.stdtrit(self._of_people, tail)"),
        ("too few steps to the tail", "for _ in range(8):", "for _ in range(1):"),
        ("freedom of a sum by hand", "np.divide(total**2, squares", "np.divide(total, squares"),
    ),
    *_of(
        f"{E}/effect.py",
        ("ten times the least ratio", "LEAST_RATIO = 0.01", "LEAST_RATIO = 0.1"),
        ("a tenth of the least ratio", "LEAST_RATIO = 0.01", "LEAST_RATIO = 0.001"),
        ("an undefined ratio acts", "if not largest >= LEAST_RATIO:", "if largest < LEAST_RATIO:"),
        ("chance is not subtracted", "rows[\"discriminator_accuracy\"].to_numpy(dtype=float) - chance", "rows[\"discriminator_accuracy\"].to_numpy(dtype=float)"),
        ("error of one measurement", "dtype=float)).sum()) / len(rows)", "dtype=float)).sum())"),
        ("every half at the whole level", "level / len(halves)", "level"),
        ("blind discriminators at twice the level", "DISTINGUISHED_LEVEL = 0.05", "DISTINGUISHED_LEVEL = 0.2"),
        ("the second half alone distinguishes", "for half in (rows.iloc[: len(rows) // 2], rows", "for half in (rows.iloc[:0], rows"),
        ("the first half alone distinguishes", "rows.iloc[len(rows) // 2 :])\n        if", "rows.iloc[:0])\n        if"),
        ("patches are not counted", "if \"patches\" in rows and rows[\"patches\"].notna().all():", "if False:"),
        ("scatter of another freedom", "special.stdtr(len(rows) - 1,", "special.stdtr(len(rows),"),
        ("won at once", "of_each.min()[best] >= ALWAYS_WON", "of_each.max()[best] >= ALWAYS_WON"),
        ("numbers of all steps", "steps[\"step\"].iloc[len(steps) // 2 :]", "steps[\"step\"]"),
        ("the first gradient alone", "largest = float(ratios.max())", "largest = float(ratios.iloc[0])"),
        ("the worst discriminator", "str(accuracies.idxmax())", "str(accuracies.idxmin())"),
        ("one of two trainings is enough", "return 2 * self.not_effective < self.jobs", "return 2 * self.not_effective <= self.jobs"),
        ("the last distance first", "distance_first=float(distances.iloc[0])", "distance_first=float(distances.iloc[-1])"),
    ),
    *_of(
        f"{E}/slide.py",
        ("glass in the calibration of a slide", "used = scored_pixels(truth, tissue)", "used = scored_pixels(truth, None)"),
    ),
    *_of(
        f"{E}/thresholds.py",
        ("half the prior of a threshold", "PRIOR = 2.0", "PRIOR = 1.0"),
        ("a prior whatever the patients", "PRIOR / n * (GRID", "PRIOR * (GRID"),
        ("thresholds without cross-validation", "if n < 2 or chosen == MIDDLE:", "if True:"),
        ("cross-validated with the patient itself", "with_prior(np.delete(dice, index, axis=0), n)", "with_prior(dice, n)"),
        ("pixels below the threshold", "from_here = counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., GRID]", "from_here = counts.cumsum(axis=-1)[..., GRID]"),
        ("of equal thresholds the first", "-abs(GRID[index] - BINS * MIDDLE)", "-index"),
    ),
    *_of(
        f"{E}/threshold_regret.py",
        ("validation counts as lost", "rows = as_reported(probabilities[probabilities[\"split\"] == \"test\"])", "rows = as_reported(probabilities)"),
        ("what is lost of the other sign", "gained = curves[best] - at", "gained = at - curves[best]"),
        ("lost below nothing", "if mean[best] <= dice:", "if False:"),
        ("the lowest Dice as the best", "float(mean.idxmax())", "float(mean.idxmin())"),
    ),
    *_of(
        f"{E}/convergence.py",
        ("noise three times as large", "np.mean(second**2) / 6", "np.mean(second**2) / 0.6"),
        ("any rise is one", "if rise > max(limit, LEAST_RISE):", "if rise > limit:"),
        ("noise does not count", "max(limit, LEAST_RISE)", "max(0.0, LEAST_RISE)"),
        ("a fall counts as a rise", "if rise > max(limit, LEAST_RISE):", "if abs(rise) > max(limit, LEAST_RISE):"),
        ("the last half against the one before", "m = n // 4", "m = n // 2"),
        ("flat at nothing has converged", "values.max() < LEAST_SCORE", "values.max() < 0"),
    ),
    *_of(
        f"{E}/dataset_precision.py",
        ("pseudo-values of n", "n * whole[:, None] - (n - 1) * without", "n * whole[:, None] - n * without"),
        ("one training has an interval of precision", "has_interval = n >= FEW_PATIENTS and len(seeds) > 1", "has_interval = n >= FEW_PATIENTS"),
        ("the interval about the jackknife's mean", "moved = mean - float(nanmean(pseudo.ravel(), axis=0))", "moved = 0.0"),
    ),
    *_of(
        f"{E}/selection.py",
        ("ties to the later trial", "ascending=[False, True, True]", "ascending=[False, False, True]"),
        ("the last checkpoint is the choice", "_best(_prefer(_settled(candidates), \"checkpoint\", \"best\"))", "_best(_prefer(_settled(candidates), \"checkpoint\", \"last\"))"),
        ("validation on a target passes", "if foreign:", "if False:"),
        ("what is refitted counts twice", "return kept[~repeated | kept[\"checkpoint\"].eq(REFIT)]", "return kept"),
    ),
    *_of(
        f"{E}/groups.py",
        ("few labels contend", "{\"few_shot\": \"few\", \"all\": \"all\"}", "{\"all\": \"all\"}"),
        ("the ceiling is corrected with the others", "if group == \"all\":", "if group == \"none\":"),
        ("few labels in the family of the others", "if group == \"few\" and family else family", "if False else family"),
    ),
    *_of(
        f"{T}/effect.py",
        ("the whole gradient of the step", "float((both - plain).norm()) / size", "float(both.norm()) / size"),
        ("rows count, not patches", "return float(rows.sum() ** 2 / (rows**2).sum())", "return float(rows.sum())"),
        ("patches of the larger domain", "len(present) ** 2 / sum(1 / _patches", "len(present) * max(_patches"),
        ("rows count, not domains", "torch.stack([right[labels == domain].mean() for domain in present]).mean()", "right.mean()"),
        ("loss of rows, not of domains", "torch.stack([losses[labels == domain].mean() for domain in present]).mean()", "losses.mean()"),
        ("steps at the ends of the parts", "int((part + 0.5) * total / count)", "int(part * total / count)"),
        ("twelve measurements of any number of epochs", "count = min(total, max(epochs, least))", "count = min(total, least)"),
        ("a share without the schedule", "wanted = self.share * growth / ratio", "wanted = self.share / ratio"),
        ("no smoothing", "math.sqrt(self.scale * wanted) if self.measured else wanted", "wanted"),
        ("a schedule that has not begun", "if self.share is None or not ratio > 0 or not growth > 0:", "if self.share is None or not ratio > 0:"),
    ),
    *_of(
        f"{E}/bootstrap.py",
        ("no correction for small samples", "np.sqrt(n / (n - 1)) * special", "1.0 * special"),
        ("quantile of n", "special.stdtrit(n - 1,", "special.stdtrit(n,"),
        ("one tail", "1 - (1 - level) / 2", "level"),
        ("strata ignored", "if strata is None:\n        return generator", "if True:\n        return generator"),
    ),
    *_of(
        f"{E}/summary.py",
        ("a share from two patients", "if n < FEW_PATIENTS:\n            return f\"{n} patient", "if n < 2:\n            return f\"{n} patient"),
        ("a gap that could not be shown", "if is_shown:", "if True:"),
        ("a gap of next to nothing", "abs(gap) <= self.config.evaluation.rope", "abs(gap) <= 0"),
        ("a ceiling below the baseline", "if direction(self.cube.measure) * gap <= 0:", "if False:"),
        ("distances closed upwards", "direction(self.cube.measure) * gap", "1.0 * gap"),
        ("dropped cells not counted", "some, every = int(block.any(axis=0).sum()), int(block.all(axis=0).sum())", "some, every = 0, 0"),
        ("the ceiling in the family", "tested = ~table[\"family\"].isin([\"\", CEILING_FAMILY])", "tested = ~table[\"family\"].isin([\"\"])"),
        ("second minus first", "result = difference(_flat(first), _flat(second),", "result = difference(_flat(second), _flat(first),"),
    ),
    *_of(
        f"{E}/scores.py",
        ("slides averaged, not summed", "if known is not None and known.formula is not None:", "if False:"),
        ("a score that one training lacks", "complete = (np.isfinite(runs) | ~used).all(axis=1, keepdims=True)", "complete = (np.isfinite(runs) | ~used).any(axis=1, keepdims=True)"),
        ("cells of any strategy", "both = np.isfinite(self.values[chosen]).all(axis=0)", "both = np.isfinite(self.values[chosen]).any(axis=0)"),
    ),
    *_of(
        f"{E}/comparison.py",
        ("Holm from one too few", "(len(members) - np.arange(len(members)))", "(len(members) - 1 - np.arange(len(members)))"),
        ("Holm not monotone", "np.maximum.accumulate(steps)", "steps"),
        ("ties take the lowest rank", "smaller + (equal + 1) / 2", "smaller + 1"),
    ),
    *_of(
        f"{E}/ranking.py",
        ("distances ranked upwards", "kept = [sign * run[:, defined] for run in runs]", "kept = [run[:, defined] for run in runs]"),
        ("pairs not corrected", "holm(np.array(p))", "np.array(p)"),
        ("groups by neighbours alone", "any(self.pairwise[index, other] <= 1 - self.level for other in run)", "run and self.pairwise[index, run[-1]] <= 1 - self.level"),
        ("hedges without correction", "hedges = _hedges(n)", "hedges = 1.0"),
        ("ties count as gains", "(values > 0).mean() + 0.5 * (values == 0).mean()", "(values >= 0).mean()"),
        ("pairs of five patients", "if n < FEW_PATIENTS or trainings < 2:", "if trainings < 2:"),
    ),
    *_of(
        f"{E}/equivalence.py",
        ("region of one side", "(mean - rope) / scale", "mean / scale"),
        ("worse and better swapped", "(-rope - mean) / scale", "(-rope + mean) / scale"),
    ),
    *_of(
        f"{E}/variance.py",
        ("squared differences not halved", "half = 0.5 * (values", "half = 1.0 * (values"),
        ("spread over n", "float(values.std(ddof=1))\n    if effect", "float(values.std(ddof=0)) / 1.2\n    if effect"),
    ),
    *_of(
        f"{E}/insights.py",
        ("effects of the other sign", "values = first.mean(axis=0) - second.mean(axis=0)", "values = second.mean(axis=0) - first.mean(axis=0)"),
        ("the ceiling ranked", "ranked = contenders(config, cube.strategies)", "ranked = list(cube.strategies)"),
    ),
    *_of(
        f"{E}/pooling.py",
        ("the last trainings of a fold", "joined[\"seed\"] < joined", "joined[\"seed\"] <= joined"),
        ("seeds of folds kept apart", "counted.append(table.assign(seed=numbers.astype(np.int64) - 1))", "counted.append(table)"),
    ),
    *_of(
        f"{E}/metrics.py",
        ("dice without the factor", "return divide(2 * tp, 2 * tp + fp + fn)", "return divide(tp, tp + fp + fn)"),
        ("nothing found is no score", "np.where((tp + fp == 0) & (fn > 0), 0.0, divide(tp, tp + fp))", "divide(tp, tp + fp)"),
        ("glass scored", "return used if tissue is None else", "return used if True else"),
        ("annotated pixels on glass lost", "(np.asarray(tissue, bool) | (truth > 0))", "np.asarray(tissue, bool)"),
    ),
    *_of(
        f"{E}/boundaries.py",
        ("no distance where nothing was found", "if predicted.any() != truth.any():", "if False:"),
        ("half of the penalty", "math.hypot(*predicted.shape) * spacing", "math.hypot(*predicted.shape) * spacing / 2"),
        ("mean in place of the percentile", "max(np.percentile(forth, percentile)", "min(np.percentile(forth, percentile)"),
    ),
    *_of(
        f"{E}/curves.py",
        ("ties of the ROC", "(below + 0.5 * self.negative)", "(below + self.negative)"),
        ("error over hits alone", "np.abs(counts.positive - counts.total).sum() / pixels.sum()", "np.abs(counts.positive - counts.total).sum() / counts.positive.sum()"),
    ),
    *_of(
        f"{E}/agreement.py",
        ("limits at one deviation", "bias - 1.96 * spread, bias + 1.96 * spread", "bias - spread, bias + spread"),
        ("variance of a limit", "1 / n + 1.96**2 / (2 * (n - 1))", "1 / n"),
        ("concordance without bias", "x.var() + y.var() + (x.mean() - y.mean()) ** 2", "x.var() + y.var()"),
    ),
    *_of(
        f"{E}/detection.py",
        ("precision not monotone", "precision = np.maximum.accumulate(precision[::-1])[::-1]", "precision = precision"),
        ("objects claimed twice", "free[row], hit[index] = False, True", "free[row], hit[index] = True, True"),
        ("false detections not of the area", "[ends] / tissue_mm2])", "[ends]])"),
        ("sensitivity of the next rate", "false <= rate + 1e-12", "false <= 2 * rate"),
        ("equal scores split", "ends = np.append(np.diff(detections.score) != 0, True)", "ends = np.append(np.diff(detections.score) <= 0, True)"),
        ("AJI of the worst partner", "overlap[mine].argmax()", "overlap[mine].argmin()"),
        ("half of the errors", "0.5 * matching.false + 0.5 * matching.missed", "matching.false + matching.missed"),
        ("AJI without what nobody took", "union += float(found_areas[~used & (matching.predicted != -2)].sum())", "union += 0.0"),
        ("AJI without what was missed", "union += areas[row]\n", "union += 0.0\n"),
    ),
    *_of(
        f"{E}/evidence.py",
        ("ranking of objects in use", "detections = rows[rows[\"kind\"] == CANDIDATE].sort", "detections = rows[rows[\"kind\"].isin([HIT, FALSE])].sort"),
        ("missed objects are not annotated", "kinds.isin([HIT, MISSED])].groupby(keys)", "kinds.isin([HIT])].groupby(keys)"),
    ),
    *_of(
        "stainda/objects/overlap.py",
        ("intersection over the sum", "common / (total - common)", "common / total"),
        ("dice without its factor", "return i, j, 2 * common / total", "return i, j, common / total"),
        ("broken outlines as they are", "array[broken] = shapely.make_valid(array[broken])", "pass"),
        ("flat pairs overlap by nothing", "return float(\"nan\")", "return 0.0"),
    ),
    *_of(
        "stainda/objects/assignment.py",
        ("worth before number", "(len(members) + 1 if most_pairs else 0)", "0"),
        ("number before worth", "(len(members) + 1 if most_pairs else 0)", "(len(members) + 1)"),
        ("the least worth", "maximize=True", "maximize=False"),
    ),
    *_of(
        "stainda/objects/matching.py",
        ("points at any distance", "predicate=\"dwithin\", distance=point_px)", "predicate=\"dwithin\", distance=10 * point_px)"),
        ("the farther centre", "1 - 0.5 * far", "0.5 + 0.5 * far"),
        ("half in an ignored region", "left_out |= _share_inside(annotated, regions) > 0.5", "left_out |= _share_inside(annotated, regions) > 1.5"),
    ),
    *_of(
        f"{S}/align/support/weight_average.py",
        ("limit of the first loss", "limit = ratio * sum(losses[start : start + patience]) / patience", "limit = ratio * losses[start]"),
        ("limit without its ratio", "limit = ratio * sum(", "limit = sum("),
        ("one worse epoch ends it", "min(losses[e : e + tolerance]) > limit", "max(losses[e : e + tolerance]) > limit"),
        ("a loss at the limit", "> limit), None)", ">= limit), None)"),
        ("start without patience", "if losses[s] <= min(losses[s : s + patience])", "if losses[s] <= max(losses[s : s + patience])"),
        ("epochs not weighed by steps", "self.recent[slot].double() * self.steps[1 + slot]", "self.recent[slot].double()"),
    ),
    *_of(
        f"{S}/align/support/gradient_reversal.py",
        ("gradient not reversed", "return -ctx.weight * gradients[0], None", "return ctx.weight * gradients[0], None"),
    ),
    *_of(
        f"{S}/align/sliced_wasserstein.py",
        ("directions of any length", "drawn = drawn / drawn.norm(dim=0)", "drawn = drawn"),
        ("values not sorted", "(rows @ drawn).sort(dim=0).values", "(rows @ drawn)"),
    ),
    *_of(
        f"{S}/after/tent.py",
        ("entropy of the wrong sign", "return -(logits.softmax(1)", "return (logits.softmax(1)"),
    ),
    *_of(
        f"{T}/unsupervised.py",
        ("ratio of samples turned round", "weight = len(train) / len(target) * chance", "weight = len(target) / len(train) * chance"),
        ("ratio of samples left out", "weight = len(train) / len(target) * chance", "weight = chance"),
        ("control variate of the wrong sign", "eta = -np.cov(weighted, weight)[0, 1]", "eta = np.cov(weighted, weight)[0, 1]"),
        ("control variate not centred", "weighted.mean() + eta * weight.mean() - eta", "weighted.mean() + eta * weight.mean()"),
        ("entropy of the mean left out", "- entropies(probabilities).mean()", "- 0 * entropies(probabilities).mean()"),
        ("MMD without the cross term", "- 2 * kernel[:n, n:].mean()", "- 1 * kernel[:n, n:].mean()"),
        ("a pixel its own neighbour", "np.fill_diagonal(similar, -np.inf)", "np.fill_diagonal(similar, 1.0)"),
        ("neighbours of the wrong side", "correct[cKDTree(source).query(features)[1]]", "correct[:1]"),
    ),
]  # fmt: skip
