"""Metrics, records, selection rules, statistics: numbers in, numbers out."""

from stainda.evaluation.agreement import Agreement, bland_altman, concordance, concordance_interval
from stainda.evaluation.analysis import Analysis, analyse, one_rotation
from stainda.evaluation.bootstrap import (
    percentile_interval,
    resampling_weights,
    weighted_means,
)
from stainda.evaluation.boundaries import SurfaceDistances, surface_distances
from stainda.evaluation.comparison import holm
from stainda.evaluation.confusion import CONFUSION_COLUMNS, confusion_rows, object_confusion, slide_confusion
from stainda.evaluation.crossed import Estimates, Moments, difference, fieller, moments, single_mean
from stainda.evaluation.curves import ProbabilityCounts
from stainda.evaluation.detection import Ranked, average_precision, froc, panoptic_quality, ranked_detections
from stainda.evaluation.evidence import (
    OBJECT_COLUMNS,
    PROBABILITY_COLUMNS,
    THRESHOLD_COLUMNS,
    counts_and_areas,
    object_rows,
    probability_counts,
    probability_rows,
    ranked_at,
    read_evidence,
    write_evidence,
)
from stainda.evaluation.metrics import (
    MEASURES,
    Measure,
    dice,
    iou,
    labels_from_probabilities,
    measure,
    pixel_counts,
    precision,
    recall,
)
from stainda.evaluation.pooling import RotationRecords
from stainda.evaluation.ranking import EffectSizes, Ranking, effect_sizes, rank_strategies
from stainda.evaluation.records import (
    RECORD_COLUMNS,
    as_records,
    empty_records,
    gather_records,
    make_records,
    read_records,
    write_records,
)
from stainda.evaluation.scores import ScoreCube, patient_scores, score_cube
from stainda.evaluation.selection import (
    REFIT,
    RULES,
    Last,
    Oracle,
    SelectionRule,
    SourceValidation,
    chosen_records,
    rule,
    select,
)
from stainda.evaluation.slide import Score, score_slide
from stainda.evaluation.summary import ALL_TARGETS
from stainda.objects.matching import Matching, match_labels, match_objects

__all__ = [
    "score_slide", "Score", "pixel_counts", "labels_from_probabilities", "dice", "iou", "precision", "recall",
    "Measure", "MEASURES", "measure", "match_objects", "match_labels", "Matching",
    "SurfaceDistances", "surface_distances", "ProbabilityCounts", "Agreement", "bland_altman", "concordance",
    "concordance_interval",
    "Ranked", "ranked_detections", "average_precision", "froc", "panoptic_quality",
    "OBJECT_COLUMNS", "PROBABILITY_COLUMNS", "THRESHOLD_COLUMNS", "object_rows", "probability_rows",
    "probability_counts", "ranked_at",
    "counts_and_areas", "read_evidence", "write_evidence",
    "CONFUSION_COLUMNS", "confusion_rows", "object_confusion", "slide_confusion",
    "RECORD_COLUMNS", "make_records", "as_records", "empty_records", "gather_records", "read_records", "write_records",
    "SelectionRule", "SourceValidation", "Last", "Oracle", "RULES", "REFIT", "rule", "select", "chosen_records",
    "ScoreCube", "patient_scores", "score_cube",
    "percentile_interval", "resampling_weights", "weighted_means",
    "Estimates", "Moments", "difference", "single_mean", "moments", "fieller", "holm",
    "Ranking", "rank_strategies", "EffectSizes", "effect_sizes",
    "Analysis", "analyse", "ALL_TARGETS", "RotationRecords", "one_rotation",
]  # fmt: skip
