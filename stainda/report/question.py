"""The question of a study, as terms and texts."""

from __future__ import annotations

from stainda.evaluation.groups import ceiling_of, few_labels, with_few
from stainda.report.answer_of_rotations import names_of, scheme_words
from stainda.report.run import LoadedRun
from stainda.report.study_view import StudyView
from stainda.report.summary_text import count

MOST_NAMED = 6
"""Rotations that are named."""


def question_rows(run: LoadedRun, view: StudyView | None) -> list[tuple[str, str]]:
    """Terms and texts: the task, whose labels are learned from and where, the budget, the rules."""
    study = run.study
    classes = ", ".join(study.task.classes)
    if not study.strategies:
        return _of_slides(run, view)
    visible = "unlabelled images (adaptation)"
    if study.protocol.visible == "nothing":
        visible = "none (generalisation)"
    named = ceiling_of(study) in {strategy.name for strategy in study.strategies}
    ceiling = run.label(study.ceiling) if named else "none in this study"
    return [
        (
            "Task",
            f"{study.task.name}: {classes} ({study.task.kind}, scored as "
            f"{'pixels' if study.task.network == 'segmentation' else 'cells of a sliding window'} and as objects)",
        ),
        *(_rotations(run) if run.rotates else _sides(run, view)),
        ("Target data in training", visible),
        ("Strategies", _strategies(run)),
        ("Baseline, ceiling", f"{run.label(study.baseline)}; {ceiling}"),
        ("Budget per strategy", _budget(run)),
        ("Refitted on all source patients", "yes" if study.protocol.refit else "no"),
        ("Chosen by", _chosen_by(run)),
    ]


def _of_slides(run: LoadedRun, view: StudyView | None) -> list[tuple[str, str]]:
    """Of a study of labels of whole slides alone."""
    slides, protocol = run.study.slide_level, run.study.protocol
    assert slides is not None
    encoder = slides.encoder.params.get("encoder", slides.encoder.name)
    return [
        ("Label", f"{' or '.join(slides.positive)}, in column {slides.label}; scored by {slides.unit}"),
        *(_rotations(run) if run.rotates else _sides(run, view)),
        ("Encoder", f"{encoder}, which does not learn"),
        ("Aggregators", ", ".join(slides.aggregators)),
        ("Trainings of each", count(protocol.seeds, "seed") + (" in each rotation" if run.rotates else "")),
        ("Chosen by", "the loss on source validation patients: the epoch, and the threshold of balanced accuracy"),
    ]


def _sides(run: LoadedRun, view: StudyView | None) -> list[tuple[str, str]]:
    cohort = run.cohort
    known = cohort.loc[cohort["role"] == "target", "domain"].unique()
    targets = list(view.analysis.targets if view else known)
    return [
        ("Labels from", ", ".join(run.study.protocol.teachers)),
        ("Target domains", ", ".join(targets) or "no target domain"),
    ]


def _rotations(run: LoadedRun) -> list[tuple[str, str]]:
    begun = run.begun
    more = f" and {len(begun) - MOST_NAMED} more" if len(begun) > MOST_NAMED else ""
    dealt = f"each {'strategy' if run.study.strategies else 'aggregator'} is trained anew in each"
    if run.study.protocol.folds:
        dealt = "patients are divided anew in each"
    return [("Rotations", f"{len(begun)} ({scheme_words(run)}): {names_of(begun[:MOST_NAMED])}{more}; {dealt}")]


def _strategies(run: LoadedRun) -> str:
    return ", ".join(
        strategy.label + (" (of an earlier call)" if strategy.name in run.earlier else "")
        for strategy in run.study.strategies
    )


def _budget(run: LoadedRun) -> str:
    study = run.study
    return (
        f"{'in each rotation ' if run.rotates else ''}{count(study.search.trials, 'trial')}, "
        f"{count(study.protocol.seeds, 'seed')} of the chosen setting"
    )


def _chosen_by(run: LoadedRun) -> str:
    study = run.study
    apart = [
        f"{run.label(name)}: {few_labels(study, name)}"
        for name in with_few(study, tuple(strategy.name for strategy in study.strategies))
    ]
    few = f", strategies with a few of them ({'; '.join(apart)})" if apart else ""
    validation = "source validation of each rotation" if run.rotates else "source validation"
    return f"{validation}; target labels serve scoring{few} and the ceiling only"
