"""Every figure that makes sense over all rotations of a study; the others are of one rotation, and refused here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from stainda.errors import RecordError
from stainda.evaluation import ALL_TARGETS
from stainda.report import domain_figures, figures, off_scale, result_tables, rotations_figures
from stainda.report.kinds import Plot, kind
from stainda.report.kinds_of_scores import MOST_LINES, MOST_MARKS, MOST_PANELS, NOT_GIVEN, worst_rows
from stainda.report.rotations import RootView
from stainda.report.study_view import NotDrawable, axis_limits, axis_title, measure_of, not_drawn, sample, set_apart
from stainda.report.tables import spread_words
from stainda.report.words import measure_title

Maker = Callable[[RootView, str, str], Plot]
MOST_SOURCES = 40


def root_plot(view: RootView, name: str, measure: str, selection: str) -> Plot:
    """A kind of figure over all rotations.

    Raises:
        RecordError: there is no such kind, or it shows one rotation.
        NotDrawable: the study does not hold what it needs.
    """
    wanted = kind(name)
    if name in OWN:
        return OWN[name](view, measure, selection)
    if name in SHARED:
        made = wanted.make(view, measure, selection)
        return replace(made, caption=f"{made.caption} {over_rotations(view)}".strip())
    places = view.known.scored
    raise RecordError(
        f"{name!r} shows one rotation, and this is a study of {len(view.known.places)}",
        file=view.run.folder,
        remedy=f"Give the folder of one ({view.run.folder / places[0].folder}), or a kind that shows all: "
        f"{', '.join(root_kinds())}",
    )


def root_kinds() -> list[str]:
    """Names of the kinds that can be drawn of all rotations."""
    return [*OWN, *SHARED]


def over_rotations(view: RootView) -> str:
    """What "all targets" is, as a sentence of a caption."""
    if view.known.folds:
        return "The patients of all folds are one cohort."
    if view.known.one_cohort:
        return f"A single rotation is scored ({view.known.scored[0].name.replace('_', ' ')})."
    return "All targets: each patient's mean over the rotations that tested it as a target, every patient once."


def forest(view: RootView, measure: str, selection: str) -> Plot:
    rows, places = _rows(view, measure, selection)
    names = view.few(list(rows["strategy"]), MOST_LINES, measure)
    shown = places[:MOST_PANELS]
    if len(names) * len(shown) > MOST_MARKS:
        shown = places[:1]
    left = [f"{len(places) - len(shown)} {view.known.noun}s are in the heat map"] if len(shown) < len(places) else []
    rest = rows["strategy"].nunique() - len(names)
    left += [f"{rest} strategies with lower means are in the table"] if rest else []
    more = f" Not drawn: {'; '.join(left)}." if left else ""
    noun, title = view.known.noun, measure_title(measure)
    return Plot(
        figures.forest(
            rows[rows["strategy"].isin(names)], view.look, shown, axis_title(measure), axis_limits(measure, rows)
        ),
        rows,
        f"{title} of every strategy on the targets, a panel per {noun}. {_sample(view, rows)} Dashed: the baseline. "
        f"{over_rotations(view)}{set_apart(view, names)}{more}",
        f"Forest plot of {title} by strategy, a panel for each of {len(shown)} {noun}s; numbers in the table.",
    )


def heat_map(view: RootView, measure: str, selection: str) -> Plot:
    rows, places = _rows(view, measure, selection)
    known, noun = measure_of(measure), view.known.noun
    scale = "The same colour scale from 0 to 1 everywhere." if known.high is not None else f"Unit: {known.unit}."
    title = measure_title(measure)
    n = rows.loc[rows["domain"] != ALL_TARGETS, "n_patients"].max()
    return Plot(
        figures.heat_map(rows, view.look, places, axis_title(measure), axis_limits(measure, rows)),
        rows,
        f"Mean {title} on the targets by strategy and {noun} (n ≤ {n} test patients per {noun}). {scale} "
        f"{over_rotations(view)}",
        f"Heat map of {title}, strategies by {noun}s; numbers in the table.",
    )


def source_target(view: RootView, measure: str, selection: str) -> Plot:
    if selection != "source_validation":
        raise NotDrawable("the matrix from sources to targets is made under source_validation alone")
    view.rows(measure)
    pairs = view.pairs(measure)
    groups = view.together.groups
    if len(groups) > MOST_SOURCES:
        raise NotDrawable(f"there are {len(groups)} rotations, too many rows; the table has them")
    wanted = dict.fromkeys([view.look.baseline, view.best(measure) or "", view.look.ceiling])
    names = [name for name in view.look.present(list(pairs["strategy"].unique())) if name in wanted]
    domains = domains_in_order(view)
    shown = [name for name in domains if name in set(pairs["domain"])]
    title = measure_title(measure)
    figure = rotations_figures.sources_to_targets(
        pairs, names, view.look, {one.name: one.label for one in groups}, shown, axis_title(measure),
        axis_limits(measure, pairs),
    )  # fmt: skip
    framed = "; framed: other patients of the sources themselves" if pairs["role"].eq("source").any() else ""
    return Plot(
        figure,
        pairs,
        f"Mean {title} from the sources of each rotation (rows) to each domain (columns): the baseline, the best "
        f"mean over all rotations without target labels, and the ceiling{framed} (n ≤ {pairs['n_patients'].max()} test "
        f"patients per cell; {view.level} intervals and the other strategies are in the CSV).",
        f"Matrices of {title}, sources by tested domains, for {len(names)} strategies; numbers in the table.",
    )


def domains_in_order(view: RootView) -> list[str]:
    """Every domain that was tested, by centre, then stain."""
    pairs = view.together.pairs.drop_duplicates("domain").sort_values(["centre", "stain"], kind="stable")
    return [str(name) for name in pairs["domain"]]


def worst_domain(view: RootView, measure: str, selection: str) -> Plot:
    if view.known.one_cohort:
        return kind("worst_domain").make(view, measure, selection)
    if selection != "source_validation":
        raise NotDrawable("pairs of sources and targets are scored under source_validation alone")
    rows = worst_pairs(view, measure)
    shown = rows[rows["strategy"].isin(view.few(list(rows["strategy"]), MOST_LINES, measure))]
    title = measure_title(measure)
    low = "lowest" if measure_of(measure).higher_is_better else "highest"
    counts = rows.loc[rows["worst"], "n_patients"]
    n = f"n\u00a0=\u00a0{counts.min()}" + (f" to {counts.max()}" if counts.max() > counts.min() else "")
    lines = spread_words(shown["interval_kind"], view.level)
    return Plot(
        domain_figures.worst_domain(shown, view.look, axis_title(measure), axis_limits(measure, rows)),
        rows,
        f"The rotation and target domain with the {low} mean {title} of each strategy, named ({n} test patients "
        f"there; lines: {lines}); ticks: the other pairs. The worst of several is worse "
        "by chance too: its interval does not allow for having been picked."
        + set_apart(view, shown["strategy"])
        + not_drawn(rows["strategy"], shown["strategy"]),
        f"Worst pair of sources and target of each strategy in {title}; numbers in the CSV.",
    )


def worst_pairs(view: RootView, measure: str) -> pd.DataFrame:
    """Pairs of a rotation and a target domain, the worst of each strategy marked; ``domain`` names the pair."""
    if view.known.one_cohort:
        return worst_rows(view, measure, "source_validation")
    view.rows(measure)
    rows = view.pairs(measure)
    labels = {one.name: one.label for one in view.together.groups}
    rows = rows[rows["role"] == "target"].copy()
    if rows[["rotation", "domain"]].drop_duplicates().shape[0] < 2:
        raise NotDrawable("there are fewer than two pairs of sources and target, so none is the worst")
    rows["target"] = rows["domain"]
    rows["domain"] = [pair_words(labels[row.rotation], row.domain) for row in rows.itertuples()]
    rows = rows.reset_index(drop=True)
    groups = rows.groupby("strategy")["mean"]
    rows["worst"] = False
    rows.loc[groups.idxmin() if measure_of(measure).higher_is_better else groups.idxmax(), "worst"] = True
    return rows


def pair_words(label: str, domain: str) -> str:
    """``SR@B from PAS@A``, ``SR@B, without B``."""
    return f"{domain} {label}" if label.startswith("from ") else f"{domain}, {label}"


def gap_closed(view: RootView, measure: str, selection: str) -> Plot:
    rows = view.rows(measure, selection, "gaps")
    if not rows["gap_closed"].notna().any():
        raise NotDrawable(f"no gap between baseline and ceiling could be shown in any {view.known.noun}")
    _, order = _rows(view, measure, selection)
    known = [name for name in order if name in set(rows["domain"])]
    places = known[:MOST_PANELS]
    names = view.few(list(rows["strategy"]), MOST_LINES, measure)
    if len(names) * len(places) > MOST_MARKS:
        places = places[:1]
    title = measure_title(measure)
    shown = rows[rows["strategy"].isin(names) & rows["domain"].isin(places)]
    beyond = off_scale.count_beyond(shown, figures.gap_limits(shown), ("gap_closed", "low", "high"))
    return Plot(
        figures.gap_closed(shown, view.look, places),
        rows,
        f"Share of the {title} gap between baseline and ceiling that each strategy closed, a panel per "
        f"{view.known.noun}; {NOT_GIVEN}. {_sample(view, shown)}{off_scale.words(beyond)} {over_rotations(view)}"
        f"{set_apart(view, names)}{not_drawn(rows['strategy'], names)}{not_drawn(known, places, view.known.noun)}",
        f"Gap closed in {title} by strategy, one panel per {view.known.noun}; numbers in the table.",
    )


def variance(view: RootView, measure: str, selection: str) -> Plot:
    made = kind("variance").make(view, measure, selection)
    if view.known.one_cohort:
        return made
    pair = "pairs of sources and target"
    caption = made.caption.replace("between patients, target domains,", f"between patients, {pair},")
    return replace(made, caption=caption.replace("domain (", "pair of sources and target ("))


def _rows(view: RootView, measure: str, selection: str) -> tuple[pd.DataFrame, list[str]]:
    """Results on targets, and the panels or columns they stand in: all together first."""
    rows = view.rows(measure, selection)
    rows = rows[rows["role"].eq("target") & np.isfinite(rows["mean"])] if not view.known.one_cohort else rows
    return rows, result_tables.regions(rows)


def _sample(view: RootView, rows: pd.DataFrame) -> str:
    return sample(rows, view.level).replace("per domain", f"per {view.known.noun}")


OWN: dict[str, Maker] = {
    "forest": forest, "heat_map": heat_map, "source_target": source_target, "worst_domain": worst_domain,
    "gap_closed": gap_closed, "variance": variance,
}  # fmt: skip
SHARED = ("differences", "slopes", "critical_difference", "effects", "regret", "cost")
"""Kinds drawn as of a plain study: they show all targets together."""
