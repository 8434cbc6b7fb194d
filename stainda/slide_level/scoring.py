"""Answers against labels: of every slide, and by domain with intervals over patients and trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from stainda.arrays import Array
from stainda.cohort import Cohort, Roles, Section
from stainda.config import EvaluationConfig
from stainda.config.slide_level import SlideLevelConfig
from stainda.evaluation.two_class import (
    MEASURES,
    CrossedBootstrap,
    Resampled,
    Trained,
    Units,
    balanced_accuracy,
    interval,
)
from stainda.randomness import generator_for
from stainda.slide_level.differences import difference
from stainda.slide_level.labels import label_of
from stainda.slide_level.trainings import Answers

ALL_TARGETS = "all targets"
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Scoring:
    """The labels that answers are compared with, after all trainings are done.

    Attributes:
        bags: number of patches by slide; slides without are not scored.
    """

    config: SlideLevelConfig
    cohort: Cohort
    roles: Roles
    bags: Mapping[str, int]
    evaluation: EvaluationConfig

    def slide_rows(self, answers: Sequence[Answers]) -> list[Row]:
        """A row for each slide and training."""
        label = label_of(self.config)
        thresholds = {(answer.aggregator, answer.seed): self.threshold(answer) for answer in answers}
        return [
            {
                "slide": section.slide, "patient": section.patient, "domain": self.cohort.domain(section),
                "split": section.split, "role": self.roles.role(self.cohort.domain(section)),
                "label": label(section), "positive": label(section) in self.config.positive,
                "aggregator": answer.aggregator, "seed": answer.seed, "patches": self.bags[section.slide],
                "log_odds": round(answer.log_odds[section.slide], 5),
                "probability": round(float(expit(answer.log_odds[section.slide])), 5),
                "threshold": round(thresholds[answer.aggregator, answer.seed], 5),
            }
            for answer in answers
            for section in self.cohort
            if section.slide in answer.log_odds
        ]  # fmt: skip

    def training_rows(self, answers: Sequence[Answers]) -> list[Row]:
        return [
            {
                "aggregator": answer.aggregator, "seed": answer.seed, "epoch": answer.epoch,
                "train_loss": round(answer.train_loss, 5), "val_loss": round(answer.val_loss, 5),
                "threshold": round(self.threshold(answer), 5), "seconds": answer.seconds, "weights": answer.weights,
                "folder": answer.job,
            }
            for answer in answers
        ]  # fmt: skip

    def threshold(self, answer: Answers) -> float:
        """Log odds with the best balanced accuracy on source validation, the nearest to 0 where several have it."""
        sections = self.cohort.where(domains=self.roles.sources, splits=["val"])
        units, members = self._units([section for section in sections if section.slide in self.bags])
        scores = _scores(answer, members)
        if len({*units.labels.tolist()}) < 2:
            return 0.0
        ordered = np.unique(scores)
        candidates = [0.0, *((ordered[1:] + ordered[:-1]) / 2).tolist()]
        once = np.ones((1, len(scores)))
        right = [balanced_accuracy(scores >= at, units.labels, once)[0] for at in candidates]
        return float(min(zip(candidates, right, strict=True), key=lambda pair: (-pair[1], abs(pair[0])))[0])

    def summary_rows(self, answers: Sequence[Answers], seed: int) -> list[Row]:
        """Scores of the test patients of every domain, of sources too, and of the targets together."""
        tested = self.cohort.where(domains=(*self.roles.sources, *self.roles.targets), splits=["test"])
        units, members = self._units([section for section in tested if section.slide in self.bags])
        bootstrap = CrossedBootstrap(units, self.evaluation.resamples, generator_for(seed, "slide level"))
        rows, first, left_out = [], self.config.aggregators[0], self._of_one_label(bootstrap)
        scored = [name for name in self.roles.targets if name not in left_out]
        for measure in MEASURES:
            resampled = {
                name: dict(self._by_domain(bootstrap, measure, _trained(self, answers, name, members), left_out))
                for name in self.config.aggregators
            }
            for name, domains in resampled.items():
                for domain, score in domains.items():
                    reference = None if name == first else resampled[first][domain]
                    together = domain == ALL_TARGETS
                    counts = bootstrap.counts(*(scored if together else (domain,)))
                    row = self._score_row(score, reference, counts)
                    if together and left_out:
                        row["note"] = "; ".join(filter(None, (_without(left_out), row["note"])))
                    rows.append({"aggregator": name, "domain": domain, "measure": measure,
                                 "role": "target" if together else self.roles.role(domain), **row})  # fmt: skip
        return rows

    def _by_domain(
        self, bootstrap: CrossedBootstrap, measure: str, trained: Trained, left_out: Sequence[str]
    ) -> Iterator[tuple[str, Resampled]]:
        """Scores of domains, and of all targets together: the mean over them without ``left_out``."""
        present = [name for name in (*self.roles.sources, *self.roles.targets) if bootstrap.units.inside(name).any()]
        scores = {name: bootstrap.score(measure, trained, name) for name in present}
        yield from scores.items()
        targets = {name: score for name, score in scores.items() if name in self.roles.targets}
        known = [score for name, score in targets.items() if name not in left_out]
        if len(targets) > 1 and known:
            parts = ("value", "draws", "each")
            yield (
                ALL_TARGETS,
                Resampled(*(np.mean([getattr(score, part) for score in known], axis=0) for part in parts)),
            )

    def _of_one_label(self, bootstrap: CrossedBootstrap) -> list[str]:
        """Targets whose test patients all have, or all lack, the label: they have no score."""
        counts = {name: bootstrap.counts(name) for name in self.roles.targets}
        return [name for name, sides in counts.items() if max(sides) and not min(sides)]

    def _score_row(self, score: Resampled, reference: Resampled | None, counts: tuple[int, int]) -> Row:
        low, high, note = interval(score.draws, counts, self.evaluation.level)
        row: Row = {
            "mean": score.mean, "low": low, "high": high,
            "sd_trainings": float(score.value.std(ddof=1)) if len(score.value) > 1 else float("nan"),
            "positive": counts[0], "negative": counts[1], "trainings": len(score.value),
        }  # fmt: skip
        tested: Row = {"p": float("nan"), "difference_note": ""}
        if reference is not None:
            apart = difference(score, reference, counts, self.evaluation.level)
            row |= {"difference": apart.value, "difference_low": apart.low, "difference_high": apart.high}
            tested = {"p": float(f"{apart.p:.3g}"), "difference_note": apart.note}
        if len(score.value) < 2 and not note:
            note = "one training: the interval holds for it alone"
        rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()} | tested
        return {**{key: None if value != value else value for key, value in rounded.items()}, "note": note}

    def _units(self, sections: Sequence[Section]) -> tuple[Units, list[list[str]]]:
        """Patients of a domain, or slides, that have labels; and the slides of each."""
        label, groups = label_of(self.config), dict[tuple[str, ...], list[Section]]()
        for section in sections:
            if label(section):
                who = (section.patient, self.cohort.domain(section))
                groups.setdefault(who if self.config.unit == "patient" else (*who, section.slide), []).append(section)
        first = [members[0] for members in groups.values()]
        labels = np.array([label(section) in self.config.positive for section in first], bool)
        units = Units([row.patient for row in first], labels, [self.cohort.domain(row) for row in first])
        return units, [[section.slide for section in members] for members in groups.values()]


def _without(domains: Sequence[str]) -> str:
    return f"without {', '.join(domains)}: all test patients have one label there"


def _trained(scoring: Scoring, answers: Sequence[Answers], name: str, members: Sequence[Sequence[str]]) -> Trained:
    mine = [answer for answer in answers if answer.aggregator == name]
    scores = np.array([_scores(answer, members) for answer in mine])
    return Trained(scores, np.array([scoring.threshold(answer) for answer in mine]))


def _scores(answer: Answers, members: Sequence[Sequence[str]]) -> Array:
    """Of units: the mean log odds of their slides."""
    return np.array([np.mean([answer.log_odds[slide] for slide in slides]) for slides in members])
