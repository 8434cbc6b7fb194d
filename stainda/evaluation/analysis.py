"""The statistics of a study: a list of rotations, of which a plain study has one.

A rotation has its own sources, targets and patients, and its own trainings, which are chosen by its own source
validation. The tables of one rotation are about domains. Those of several are about rotations, see
:mod:`~stainda.evaluation.pooling`: every patient counts once, with its mean over the rotations that tested it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.config import StudyConfig
from stainda.errors import RecordError
from stainda.evaluation.pooling import (
    Group,
    RotationRecords,
    group_rotations,
    joined_trainings,
    labelled,
    labelled_choices,
    pair_label,
    pooled_scores,
)
from stainda.evaluation.scores import ScoreCube, ordered, score_cube
from stainda.evaluation.selection import DEFAULT_RULE, RULES, chosen_records, select
from stainda.evaluation.summary import (
    DIFFERENCE_COLUMNS,
    GAP_COLUMNS,
    RESULT_COLUMNS,
    Region,
    ScoreCells,
    domain_order,
    joined,
    regions_of,
)

COMPARED_BY = ("dice", "object_f1")
"""Measures by which selection rules are compared with the default one."""
PAIR_COLUMNS = ["rotation", "sources", *RESULT_COLUMNS]


@dataclass(frozen=True)
class Analysis:
    """Everything the statistics say about a study, as tables.

    Attributes:
        results: the table results.csv: one row per strategy, domain, class, selection rule and measure. ``mean`` is
            over the test patients; what ``low`` and ``high`` are says ``interval_kind`` (an interval over patients and
            trainings at ``config.evaluation.level``, or the range of the patients), and ``note`` why it is no more.
            Next to single domains there are rows for :data:`~stainda.evaluation.summary.ALL_TARGETS` and
            :data:`~stainda.evaluation.summary.ALL_SOURCES` (stain and centre ``*``), and, with several classes, for
            the class ``all``: each patient's mean over the classes.
            ``domain`` is a domain where there is one set of sources (one rotation, or its folds), else the label
            of a rotation, its score being each patient's mean over the targets of that rotation.
        choices: of trial and checkpoint, as they fit ``records``.
        patients: the scores that the tables are made of.
        targets: domains, as in ``records``.
        tested: the domains of ``cubes`` that the question is about.
        cubes: by measure, scores under the default rule with those of single trainings; their domains are those of
            ``results``.
        groups: rotations that differ by their fold only are one group.
        pairs: from the sources of each group to each domain tested there, :data:`PAIR_COLUMNS`.
        records: test records; where the rotations have names, ``domain`` is the label of a pair
            (``from PAS@A → SR@B``).
        choices_by_rotation: the same choices as each rotation made them; with a leading column ``rotation`` where the
            rotations have names.
    """

    results: pd.DataFrame
    differences: pd.DataFrame
    gaps: pd.DataFrame
    choices: pd.DataFrame
    patients: pd.DataFrame
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    tested: tuple[str, ...]
    cubes: Mapping[str, ScoreCube]
    groups: tuple[Group, ...]
    pairs: pd.DataFrame
    records: pd.DataFrame
    choices_by_rotation: pd.DataFrame

    def rotations_of(self, strategy: str, measure: str) -> int:
        """In how many rotations a strategy has a score on targets; the folds of one set of sources are one."""
        cube = self.cubes[measure]
        if strategy not in cube.strategies:
            return 0
        values = cube.values[cube.strategies.index(strategy)]
        scored = np.isfinite(values[:, [cube.domains.index(name) for name in self.tested]]).any(axis=(0, 2))
        return int(scored.any() if len(self.groups) == 1 else scored.sum())

    def on_common_cells(self, strategies: Sequence[str], measure: str) -> list[npt.NDArray[np.float64]]:
        """Scores over all targets of every patient, each float (patients,): on the (patient, domain, class) cells that
        all of these strategies have, trainings averaged; patients without one are left out."""
        cube = self.cubes[measure]
        common = cube.common([cube.strategies.index(name) for name in strategies])
        scores = common.over([name for name in self.tested if name in common.domains], common.classes)
        return list(scores[:, np.isfinite(scores).all(axis=0)])


def one_rotation(
    records: pd.DataFrame,
    config: StudyConfig,
    trials: pd.DataFrame | None = None,
    unsupervised: pd.DataFrame | None = None,
) -> RotationRecords:
    """The only rotation of a study whose protocol names its sources and targets.

    Args:
        unsupervised: scores of checkpoints on unlabelled targets, see :func:`~stainda.evaluation.selection.select`.
    """
    domains = ordered(records["domain"], domain_order(records))
    sources = tuple(matching(domains, config.protocol.sources or ("*",)))  # pooled: every domain teaches
    targets = tuple(
        name
        for name in domains
        if name not in sources and ("rest" in config.protocol.targets or matching([name], config.protocol.targets))
    )
    return RotationRecords("", "", sources, targets, records, trials, unsupervised)


def analyse(rotations: Sequence[RotationRecords], config: StudyConfig) -> Analysis:
    """All tables at once; see :class:`Analysis` and :mod:`~stainda.evaluation.summary`.

    Under the default selection rule of every measure, under the other rules of :data:`COMPARED_BY`.

    Args:
        rotations: in the order of the study; those without test records are left out.

    Raises:
        RecordError: there are no test records.
        LeakError: the records of a rotation hold validation scores of a domain that is not its source.
    """
    rotations = [rotation for rotation in rotations if rotation.scored]
    if not rotations:
        raise RecordError("there are no records of test patients", remedy="Give at least one patient the split test")
    groups = group_rotations(rotations)
    choices = {
        rotation.name: select(rotation.records, rotation.sources, rotation.trials, unsupervised=rotation.unsupervised)
        for rotation in rotations
    }
    order = {
        "strategies": [strategy.name for strategy in config.strategies],
        "domains": domain_order(pd.concat([rotation.records for rotation in rotations])),
        "classes": config.task.classes,
    }
    parts: dict[str, list[pd.DataFrame]] = {"results": [], "differences": [], "gaps": [], "patients": []}
    pairs: list[pd.DataFrame] = []
    cubes: dict[str, ScoreCube] = {}
    for rule in RULES:
        picked = [
            joined_trainings([chosen_records(member.test, choices[member.name], rule.name) for member in group.members])
            for group in groups
        ]
        for measure in ordered(pd.concat([rows["measure"] for rows in picked]), []):
            if rule.name != DEFAULT_RULE and measure not in COMPARED_BY:
                continue
            singles = [score_cube(rows, measure, order) for rows in picked]
            cube, regions = _scores_and_regions(groups, singles)
            cells = ScoreCells(cube, regions, rule.name, config)
            for name, tables_of_part in parts.items():
                tables_of_part.append(getattr(cells, name)())
            if rule.name == DEFAULT_RULE:
                cubes[measure] = cube
                own = parts["results"][-1:] if len(groups) == 1 else _by_domain(groups, singles, config)
                pairs += [_pairs(group, rows) for group, rows in zip(groups, own, strict=True)]
    tables = {name: joined(tables_of_part) for name, tables_of_part in parts.items()}
    records, fitting = labelled(rotations, groups), labelled_choices(rotations, groups, choices)
    scored_domains = set(records["domain"])
    tested = [pair_label(group.label, name) for group in groups for name in group.tested]
    return Analysis(
        results=tables["results"].reindex(columns=RESULT_COLUMNS),
        differences=tables["differences"].reindex(columns=DIFFERENCE_COLUMNS),
        gaps=tables["gaps"].reindex(columns=GAP_COLUMNS),
        choices=fitting,
        patients=tables["patients"],
        sources=tuple(dict.fromkeys(name for group in groups for name in group.sources)),
        targets=tuple(name for name in tested if name in scored_domains),
        tested=_tested(groups, cubes),
        cubes=cubes,
        groups=groups,
        pairs=joined(pairs).reindex(columns=PAIR_COLUMNS),
        records=records,
        choices_by_rotation=_stacked(choices),
    )


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names that match any shell-style pattern."""
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _scores_and_regions(groups: Sequence[Group], singles: Sequence[ScoreCube]) -> tuple[ScoreCube, list[Region]]:
    """What the tables are made of: domains of one group, or the rotations of several."""
    if len(groups) > 1:
        return pooled_scores(groups, singles)
    group, cube = groups[0], singles[0]
    regions = regions_of(group.test, cube.domains, group.untested_sources, group.tested)
    return cube, [region for region in regions if all(name in cube.domains for name in region.domains)]


def _tested(groups: Sequence[Group], cubes: Mapping[str, ScoreCube]) -> tuple[str, ...]:
    if len(groups) > 1:
        return tuple(group.label for group in groups)
    known = {name for cube in cubes.values() for name in cube.domains}
    return tuple(name for name in groups[0].tested if name in known)


def _by_domain(groups: Sequence[Group], singles: Sequence[ScoreCube], config: StudyConfig) -> list[pd.DataFrame]:
    """The results of each group by itself."""
    result = []
    for group, cube in zip(groups, singles, strict=True):
        regions = regions_of(group.test, cube.domains, group.sources, group.tested)
        result.append(
            ScoreCells(cube, [region for region in regions if region.stain != "*"], DEFAULT_RULE, config).results()
        )
    return result


def _pairs(group: Group, results: pd.DataFrame) -> pd.DataFrame:
    """From the sources of one group to every domain that was tested."""
    rows = results[results["stain"] != "*"]
    role = rows["role"].mask(rows["domain"].isin(group.sources), "source")
    return rows.assign(role=role, rotation=group.name, sources="; ".join(group.sources))[PAIR_COLUMNS]


def _stacked(choices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    if list(choices) == [""]:
        return choices[""]
    table = pd.concat([choice.assign(rotation=name) for name, choice in choices.items()], ignore_index=True)
    table.insert(0, "rotation", table.pop("rotation"))
    return table
