"""What was done, as sentences for a paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stainda.config import StudyConfig
from stainda.config.slide_level import SlideLevelConfig
from stainda.models import start_of
from stainda.slide_level.aggregators import REFERENCES
from stainda.slide_level.differences import LEAST_TRAININGS


def methods_text(config: StudyConfig, settings: SlideLevelConfig, patches: Sequence[int]) -> str:
    """The methods of the scores of slides.

    Args:
        patches: of each slide.
    """
    grid, training = settings.patches, settings.training
    scale = f"{grid.mpp:g} µm per pixel" if grid.mpp is not None else f"a downsampling of {grid.downsample:g}"
    low, middle, high = np.percentile(patches, [0, 50, 100]).round().astype(int)
    pretrained = settings.encoder.pretraining
    title = (pretrained.title if pretrained else "") or str(
        settings.encoder.params.get("encoder", settings.encoder.name)
    )
    start = "with published weights" if start_of(settings.encoder) else "with random weights"
    named = "; ".join(f"{name} ({REFERENCES[name]})" for name in settings.aggregators)
    networks = [name for name in settings.aggregators if name not in ("svm", "fisher")]
    who = "All" if len(networks) == len(settings.aggregators) else ", ".join(networks).capitalize()
    brought = f"{who} brought the features to {training.hidden} numbers first. " if networks else ""
    balanced = ", both labels weighing the same" if training.balanced else ""
    scaled = {
        "source": "the training slides of the source domains",
        "domain": "the training slides of each domain (of targets from images without labels)",
    }[training.standardise]
    unit = "patients, each by the mean log odds of its slides in a domain" if settings.unit == "patient" else "slides"
    return (
        f"The label {' or '.join(settings.positive)} of column {settings.label} was learned from whole slides. Patches "
        f"of {grid.size} pixels at {scale}, on a grid over the tissue ({middle} per slide, {low} to {high}), were "
        f"encoded once by {title}, {start}, which did not learn; features were standardised by {scaled}. Aggregators: "
        f"{named}. {brought}Each was trained for {training.epochs} epochs "
        f"with AdamW (learning rate {training.learning_rate:g}, cosine) on cross-entropy{balanced}, from the labels of "
        f"source training patients; the epoch with the lowest loss on source validation patients was kept, and the "
        f"threshold of balanced accuracy was chosen on them. Labels of targets and of test patients were used for "
        f"scoring only. Scores are of {unit}, means of {config.protocol.seeds} trainings; intervals "
        f"({100 * config.evaluation.level:g} %) are of a bootstrap over patients within their label and over "
        f"trainings.{_differences(config, settings)}"
    )


def _differences(config: StudyConfig, settings: SlideLevelConfig) -> str:
    """How aggregators were compared, where they were."""
    if len(settings.aggregators) < 2 or config.protocol.seeds < LEAST_TRAININGS:
        return ""
    return (
        f" Differences from {settings.aggregators[0]} were compared with their variances over patients (of the "
        "bootstrap) and over trainings, each with its own quantile of Student's t (Howe 1974); p were corrected for "
        "all aggregators and targets (Holm 1979)."
    )
