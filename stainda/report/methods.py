"""What a paper's methods section needs, from the study and its environment."""

from __future__ import annotations

from typing import Any

from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.groups import few_labels, group_of
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.answer_of_rotations import scheme_words
from stainda.report.run import SPLITS, LoadedRun
from stainda.report.study_view import StudyView
from stainda.report.summary_text import count, hit_words, listed, percent
from stainda.run_directory.slide_level_tables import SLIDE_METHODS


def _cohort_words(run: LoadedRun) -> str:
    cohort = run.cohort
    return (
        f"{cohort['slide'].nunique()} sections of {count(cohort['patient'].nunique(), 'patient')} in "
        f"{count(cohort['domain'].nunique(), 'domain')} ({' × '.join(run.study.domain)}) were divided by patient into "
        f"{_divided(run)}"
    )


def slide_methods(run: LoadedRun) -> str:
    """What was done to learn labels of slides, as the run (or its first rotation) wrote it down."""
    folders = [run.folder, *(run.folder / rotation.folder for rotation in run.begun)]
    written = next((path for folder in folders if (path := SLIDE_METHODS.at(folder)).is_file()), None)
    return "" if written is None else written.read_text(encoding="utf-8").strip()


def methods_paragraph(run: LoadedRun, view: StudyView | None) -> str:
    """A paragraph that can be pasted into a paper; it states what was done, not what was found."""
    study = run.study
    if not study.strategies:
        return f"{_cohort_words(run)} {slide_methods(run)}"
    mpp, patches = study.patches.mpp, study.patches
    scale = f"{mpp:g} µm per pixel" if mpp else f"{patches.downsample:g}-fold reduction"
    parts = [_cohort_words(run)]
    if len(run.quality):
        registered = int((~run.quality["status"].eq("refused")).sum())
        parts.append(
            f"Sections of a block were registered with {study.registration.method.upper()}; {registered} of "
            f"{len(run.quality)} passed the quality gates."
        )
    if len(run.propagation):
        kept = int(run.propagation["status"].eq("kept").sum())
        parts.append(f"{kept} of {len(run.propagation)} propagated annotations were kept.")
    parts.append(
        f"Networks ({listed(study.network_names)}) were trained on patches of {patches.size} pixels at {scale} with "
        f"labels of {_taught(run)}; {listed([strategy.label for strategy in study.strategies])} were "
        f"given the same budget of {count(study.search.trials, 'trial')} and {count(study.protocol.seeds, 'seed')} of "
        "the chosen setting. Settings, checkpoints and probability thresholds were chosen on the source validation "
        "patients alone."
    )
    parts += [
        f"{strategy.label} also learned from annotations of {few_labels(study, strategy.name)}; it was compared with "
        "the baseline apart from the strategies without target labels, and not ranked."
        for strategy in study.strategies
        if group_of(study, strategy.name) == "few"
    ]
    statistics = study.evaluation
    spread = (
        f"{percent(statistics.level)} intervals from the variance over patients and that over trainings (the mean of "
        "the half widths of Student's t with the degrees of freedom of Satterthwaite 1946 and of Howe 1974; with two "
        "trainings the latter), and strategies were compared with the baseline by the corresponding two-sided test, "
        "paired by patient, with Holm's correction"
    )
    if study.protocol.seeds < 2:
        spread = "the range of the patients; with one training each, strategies were not tested against each other"
    matched = hit_words(study, statistics.overlap(study.task.kind)).replace("IoU", "intersection over union")
    parts.append(
        "Counts of pixels and of objects "
        f"(matched one-to-one with {matched}) were summed over the "
        "slides of a patient within a domain before the measure was computed, scores were averaged over seeds, and "
        f"patients were weighted equally. Uncertainty is given as {spread}. With fewer "
        "than "
        f"{FEW_PATIENTS} patients the range of the patients is given instead, and nothing is tested."
    )
    if view is not None:
        overall = view.analysis.results
        overall = overall[overall["domain"].isin([ALL_TARGETS, ALL_SOURCES])]
        if len(overall) and int(overall["n_patients"].max()) < 2:
            parts.append("With a single test patient, neither intervals nor tests were computed.")
        else:
            parts += _further(view)
    references = [f"{strategy.label}: {strategy.reference}." for strategy in study.strategies if strategy.reference]
    if references:
        parts.append("Strategies after: " + " ".join(references))
    if view is not None and view.folds:
        parts.append("The test patients of all folds were analysed as one cohort.")
    if view is not None and view.by_rotation:
        parts.append(
            "Over rotations, a patient's score is its mean over the rotations that tested it, so that every patient "
            "counts once; differences were taken within rotations before they were averaged."
        )
    return " ".join(parts)


def _divided(run: LoadedRun) -> str:
    """How many patients trained, validated and were tested, in each rotation where there are several."""
    shown = {}
    for split in SPLITS:
        sizes = sorted({len(rotation.patients[split]) for rotation in run.begun}) or [0]
        shown[split] = f"{sizes[0]}" + (f" to {sizes[-1]}" if sizes[-1] > sizes[0] else "")
    text = f"training ({shown['train']}), validation ({shown['val']}) and test ({shown['test']})"
    if not run.rotates:
        return f"{text}."
    scheme = run.study.protocol.scheme.replace("_", " ")
    return f"{text} in each of {count(len(run.begun), 'rotation')} ({scheme}: {scheme_words(run)})."


def _taught(run: LoadedRun) -> str:
    """Whose labels were learned from."""
    if not run.rotates:
        return listed(run.study.protocol.teachers)
    sources = {rotation.sources for rotation in run.begun}
    return listed(sources.pop()) if len(sources) == 1 else "the sources of each rotation"


def _further(view: StudyView) -> list[str]:
    """The statistics beyond means that could be made of this study, each with its source."""
    insights, study = view.insights(), view.run.study
    parts = []
    if insights.ranking.tested:
        parts.append(
            "Strategies were ranked within patients; all pairs were compared by t tests with Holm's correction."
        )
    if insights.effects["p_equal"].notna().any():
        parts.append(
            "Sizes of effects are Hedges' g of the paired differences; the probability of practical equivalence "
            f"(differences within ±{study.evaluation.rope:g}) is that of the Bayesian t test (Benavoli et al. 2017)."
        )
    if len(view.run.objects):
        parts.append(
            "Counts and areas per patient were compared with the annotations by limits of agreement (Bland & Altman "
            "1999) and Lin's concordance."
        )
    if len(view.run.domain_gap):
        parts.append(
            "Distances between domains were measured on patches visible in training as differences in optical density, "
            "Wasserstein distance in CIE Lab, proxy A-distance (Ben-David et al. 2007) and linear CKA (Kornblith et "
            "al. "
            "2019) of the baseline's features."
        )
    return parts


def environment_rows(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """``environment.json`` flattened to rows, nested keys joined by a dot."""
    rows: list[tuple[str, str]] = []
    for key, value in environment.items():
        if isinstance(value, dict):
            rows += [(f"{key}.{inner}", shown) for inner, shown in environment_rows(value)]
        elif isinstance(value, list):
            rows.append((key, ", ".join(map(str, value))))
        else:
            rows.append((key, "" if value is None else str(value)))
    return rows
