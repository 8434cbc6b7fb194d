"""Names and titles of the kinds of figures, apart from what draws them: they are listed without matplotlib."""

from __future__ import annotations

TITLES: dict[str, str] = {
    "forest": "Forest plot: mean and interval by strategy, a panel per domain",
    "heat_map": "Heat map: strategy × domain",
    "source_target": "Source → target: a matrix of stains and centres for the strategies of note",
    "worst_domain": "Worst domain of each strategy",
    "differences": "Differences from the baseline: every patient, mean and interval",
    "gap_closed": "Gap closed between baseline and ceiling",
    "domain_gap": "Distance of domains against the loss of score",
    "slopes": "Paired slopes: each patient with the baseline and with a strategy",
    "cost": "Cost against score",
    "critical_difference": "Mean ranks over patients, and what was not shown to differ",
    "effects": "Sizes of effects, and probability of being better, equal or worse",
    "variance": "Where scores vary: patients, domains, trainings",
    "reliability": "Reliability diagram of pixel probabilities",
    "precision_recall": "Precision and recall of objects by their score",
    "froc": "FROC: sensitivity against false detections per mm² of tissue",
    "counts": "Bland-Altman: objects counted and annotated per patient",
    "areas": "Bland-Altman: mean area of objects found and annotated per patient",
    "confusion_objects": "Which classes are mistaken for which: objects",
    "confusion_pixels": "Which classes are mistaken for which: pixels",
    "learning_curves": "Learning curves",
    "label_curve": "Score against the number of annotated objects, a curve per start",
    "regret": "Regret of selection rules against the oracle",
    "history": "Search history",
    "importance": "Importance of settings",
    "slices": "Score against each setting",
    "parallel": "Parallel coordinates of the trials",
}


def catalogue() -> list[tuple[str, str]]:
    """Names and titles of all kinds of figures."""
    return list(TITLES.items())
