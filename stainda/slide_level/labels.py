"""Whose labels may be learned from: those of source patients in train and val, and nobody else's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from stainda.cohort import Cohort, Roles, Section
from stainda.config.slide_level import SlideLevelConfig
from stainda.errors import ConfigError, LeakError, did_you_mean

Teaching = Literal["train", "val"]


def label_of(config: SlideLevelConfig) -> Callable[[Section], str]:
    """Gives the label of a slide, empty where it has none or is of a stain that does not count."""

    def label(section: Section) -> str:
        if config.stains and section.stain not in config.stains:
            return ""
        return (section.cell(config.label) or "").strip()

    return label


@dataclass(frozen=True)
class TeachingLabels:
    """Labels of source patients, by slide; those of all others are not in here.

    Attributes:
        positive: by slide, of each split.
    """

    positive: Mapping[Teaching, Mapping[str, bool]]

    def of(self, slide: str) -> bool:
        """Whether a slide that teaches or validates has the label to be found.

        Raises:
            LeakError: the slide is of a target or of a test patient.
        """
        for labels in self.positive.values():
            if slide in labels:
                return labels[slide]
        raise LeakError(
            f"the label of {slide!r} may not be learned from",
            remedy="Labels of targets and of test patients are for scoring only",
        )


def teaching_labels(cohort: Cohort, roles: Roles, config: SlideLevelConfig) -> TeachingLabels:
    """The labels that may be learned from and chosen by.

    Raises:
        ConfigError: no slide of the source teaches or validates, or all that teach have one label.
    """
    label = label_of(config)
    positive: dict[Teaching, dict[str, bool]] = {}
    for split in ("train", "val"):
        members = cohort.where(domains=roles.sources, splits=[split])
        positive[split] = {member.slide: label(member) in config.positive for member in members if label(member)}
        if not positive[split]:
            raise ConfigError(
                f"no {split} slide of the source domains ({', '.join(roles.sources)}) has a label in column "
                f"{config.label!r}",
                file=cohort.source,
                remedy="Write labels into the manifest, or move patients in its column split",
            )
    if len({*positive["train"].values()}) < 2:
        which = "has" if True in positive["train"].values() else "lacks"
        raise ConfigError(
            f"every slide that teaches {which} the label {' or '.join(config.positive)}: there are no two labels",
            file=cohort.source,
            remedy="Move patients in the column split of the manifest, or take other shares in protocol.split",
        )
    return TeachingLabels(positive)


def check_labels(cohort: Cohort, config: SlideLevelConfig) -> None:
    """Refuse labels that no slide has, and several labels of a patient where patients are scored.

    Raises:
        ConfigError: what was found; the nearest column or label is named.
    """
    known = [name for name, _ in next(iter(cohort)).further]
    if all(section.cell(config.label) is None for section in cohort):
        raise ConfigError(
            f"the manifest has no column {config.label!r} (slide_level.label)",
            file=cohort.source, remedy=did_you_mean(config.label, [*known, "group", "centre", "stain"]),
        )  # fmt: skip
    label = label_of(config)
    labels = dict.fromkeys(text for section in cohort if (text := label(section)))
    if unknown := [name for name in config.positive if name not in labels]:
        raise ConfigError(
            f"no slide has {unknown[0]!r} in column {config.label!r} (slide_level.positive)",
            file=cohort.source, remedy=did_you_mean(unknown[0], labels) if labels else "Write labels into the manifest",
        )  # fmt: skip
    if config.unit == "patient":
        of_patient: dict[str, Section] = {}
        for section in cohort:
            if not label(section):
                continue
            first = of_patient.setdefault(section.patient, section)
            if (label(first) in config.positive) != (label(section) in config.positive):
                labels_of_both = f"label {label(section)!r}, but in row {first.row} {label(first)!r}"
                raise ConfigError(
                    f"patient {section.patient!r} has {labels_of_both}",
                    file=cohort.source, row=section.row,
                    remedy="Where slides of a patient differ, score slides: slide_level.unit: slide",
                )  # fmt: skip
