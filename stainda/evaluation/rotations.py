"""A study of several rotations as one study: a patient that is tested in several of them counts once.

A rotation has its own sources, targets and patients, and its own trainings, which are chosen by its own source
validation. Within a rotation a patient's score is what it is in a study of that rotation alone: the mean over its
target domains. Over all rotations it is the patient's mean over the rotations that tested it as a target; every
interval and test is over patients and trainings, never over (rotation, patient) pairs. The n-th trainings of all
rotations are one training of the recipe. Differences are taken within a rotation before
they are averaged, so a strategy that lacks a rotation is compared on the others alone. The folds of one set of sources
are one cohort: each patient has the scores of the fold that tested it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.config import StudyConfig
from stainda.evaluation.insights import Insights, insights_of
from stainda.evaluation.scores import ScoreCube, nanmean, ordered, score_cube
from stainda.evaluation.selection import ANY_DOMAIN, DEFAULT_RULE, RULES, chosen_records, select
from stainda.evaluation.summary import (
    ALL_SOURCES,
    ALL_TARGETS,
    COMPARED_BY,
    DIFFERENCE_COLUMNS,
    GAP_COLUMNS,
    RESULT_COLUMNS,
    Analysis,
    Cells,
    Region,
    _domain_order,
    _joined,
    _regions,
)

PAIR_COLUMNS = ["rotation", "sources", *RESULT_COLUMNS]
ARROW = " → "
_APART = 1_000_000
"""Trials of the n-th rotation are numbered from n times this where records of several rotations are one table."""


@dataclass(frozen=True)
class Rotation:
    """What one rotation left: its records of all trials and checkpoints, and what its choices are made from.

    Attributes:
        group: the same for the folds of one set of sources.
        targets: empty where the sources themselves are tested, in other patients (scheme ``pooled``).
    """

    name: str
    group: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    records: pd.DataFrame
    trials: pd.DataFrame | None = None
    unsupervised: pd.DataFrame | None = None


@dataclass(frozen=True)
class Group:
    """Rotations that differ by their fold only; mostly one. ``label`` is its name in every table of the study."""

    name: str
    label: str
    members: tuple[Rotation, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return self.members[0].sources

    @property
    def tested(self) -> tuple[str, ...]:
        """The domains that the question is about."""
        return self.members[0].targets or self.members[0].sources


@dataclass(frozen=True)
class Together:
    """Everything the statistics say about a study of several rotations.

    Attributes:
        analysis: as of a plain study, ``domain`` being the label of a rotation, its score each patient's mean over the
            targets of that rotation; :data:`~stainda.evaluation.summary.ALL_TARGETS` is each patient's mean over
            rotations. Where all rotations are folds of one set of sources, ``domain`` is a domain.
            ``targets`` are labels of pairs (``from PAS@A → SR@B``), as in ``records``; so are those of ``choices``.
        pairs: from the sources of each rotation to each domain tested there, :data:`PAIR_COLUMNS`.
        records: test records of all rotations, ``domain`` being the label of a pair.
        choices: of every rotation, with a leading column ``rotation``.
        cubes: by measure, scores under the default rule; their domains are those of ``analysis``.
    """

    groups: tuple[Group, ...]
    analysis: Analysis
    pairs: pd.DataFrame
    records: pd.DataFrame
    choices: pd.DataFrame
    cubes: Mapping[str, ScoreCube]

    def rotations_of(self, strategy: str, measure: str) -> int:
        """In how many rotations a strategy has a score on targets; the folds of one set of sources are one."""
        cube = self.cubes[measure]
        if strategy not in cube.strategies:
            return 0
        values = cube.values[cube.strategies.index(strategy)]
        tested = [cube.domains.index(name) for name in _tested(cube)]
        scored = np.isfinite(values[:, tested]).any(axis=(0, 2))
        return int(scored.any() if len(self.groups) == 1 else scored.sum())


def group_turns(turns: Sequence[Rotation]) -> tuple[Group, ...]:
    """Rotations by group, in their order."""
    names = dict.fromkeys(turn.group for turn in turns)
    found = []
    for name in names:
        members = tuple(turn for turn in turns if turn.group == name)
        shown = name if len(members) > 1 else members[0].name
        label = f"from {shown}" if shown in (*members[0].sources, *_fold_names(members[0])) else shown.replace("_", " ")
        found.append(Group(shown, label, members))
    return tuple(found)


def _fold_names(turn: Rotation) -> tuple[str, ...]:
    """``PAS@A.fold_2`` where it is the only fold of its group that was run."""
    return (turn.name,) if turn.group in turn.sources else ()


def analyse_rotations(turns: Sequence[Rotation], config: StudyConfig) -> Together:
    """All tables at once, from rotations that have test records.

    Args:
        turns: in the order of the study; those without test records are left out.

    Raises:
        RecordError: the records of a rotation hold validation scores of a domain that is not its source.
        ValueError: no turn has test records.
    """
    turns = [turn for turn in turns if (turn.records["split"] == "test").any()]
    if not turns:
        raise ValueError("no rotation has records of test patients")
    groups = group_turns(turns)
    choices = {
        turn.name: select(turn.records, turn.sources, turn.trials, unsupervised=turn.unsupervised) for turn in turns
    }
    tests = {turn.name: turn.records[turn.records["split"] == "test"] for turn in turns}
    order = {
        "strategies": [one.name for one in config.strategies],
        "domains": _domain_order(pd.concat(list(tests.values()))),
        "classes": config.task.classes,
    }
    parts: dict[str, list[pd.DataFrame]] = {"results": [], "differences": [], "gaps": [], "patients": []}
    pairs: list[pd.DataFrame] = []
    cubes: dict[str, ScoreCube] = {}
    for one in RULES:
        picked = [
            joined_trainings([chosen_records(tests[turn.name], choices[turn.name], one.name) for turn in group.members])
            for group in groups
        ]
        for measure in ordered(pd.concat([rows["measure"] for rows in picked]), []):
            if one.name != DEFAULT_RULE and measure not in COMPARED_BY:
                continue
            singles = [score_cube(rows, measure, order) for rows in picked]
            cube, regions = _axis(groups, singles, picked)
            cells = Cells(cube, regions, one.name, config)
            for name, made in parts.items():
                made.append(getattr(cells, name)())
            if one.name == DEFAULT_RULE:
                cubes[measure] = cube
                pairs += [
                    _pairs(group, single, rows, config)
                    for group, single, rows in zip(groups, singles, picked, strict=True)
                ]
    tables = {name: _joined(made) for name, made in parts.items()}
    records, labelled = _one_table(groups, turns, tests, choices)
    tested = [f"{group.label}{ARROW}{name}" for group in groups for name in group.tested]
    found = set(records["domain"])
    analysis = Analysis(
        tables["results"].reindex(columns=RESULT_COLUMNS),
        tables["differences"].reindex(columns=DIFFERENCE_COLUMNS),
        tables["gaps"].reindex(columns=GAP_COLUMNS),
        labelled,
        tables["patients"],
        tuple(dict.fromkeys(name for group in groups for name in group.sources)),
        tuple(name for name in tested if name in found),
        cubes,
    )
    stacked = pd.concat([table.assign(rotation=name) for name, table in choices.items()], ignore_index=True)
    stacked.insert(0, "rotation", stacked.pop("rotation"))
    return Together(groups, analysis, _joined(pairs).reindex(columns=PAIR_COLUMNS), records, stacked, cubes)


def _axis(
    groups: Sequence[Group], singles: Sequence[ScoreCube], picked: Sequence[pd.DataFrame]
) -> tuple[ScoreCube, list[Region]]:
    """A cube whose domains are rotations, and its regions; the domains themselves where there is one group."""
    if len(groups) == 1:
        group, cube = groups[0], singles[0]
        outside = [] if not group.members[0].targets else list(group.sources)
        regions = list(_regions(picked[0], cube.domains, outside, group.tested))
        return cube, [one for one in regions if all(name in cube.domains for name in one.domains)]
    strategies = tuple(dict.fromkeys(name for cube in singles for name in cube.strategies))
    known = max(singles, key=lambda cube: len(cube.strategies)).strategies
    strategies = (*known, *(name for name in strategies if name not in known))
    patients = tuple(sorted({name for cube in singles for name in cube.patients}))
    classes = max(singles, key=lambda cube: len(cube.classes)).classes
    own_side = [f"{group.label} (own domains)" for group in groups]
    domains = (*(group.label for group in groups), *own_side)
    seeds = np.zeros((len(groups), len(strategies)), np.int64)
    for place, cube in enumerate(singles):
        seeds[place, [strategies.index(name) for name in cube.strategies]] = cube.seeds
    fewest = np.where(seeds > 0, seeds, np.iinfo(np.int64).max).min(axis=0)
    shape = (len(strategies), len(patients), len(domains), len(classes))
    runs = np.full((shape[0], int(fewest.max(initial=0)), *shape[1:]), np.nan)
    present = np.zeros(shape, bool)
    regions = []
    for place, (group, cube) in enumerate(zip(groups, singles, strict=True)):
        rows = np.ix_(
            [strategies.index(name) for name in cube.strategies], [patients.index(name) for name in cube.patients]
        )
        sides = {place: group.tested, len(groups) + place: group.sources if group.members[0].targets else ()}
        for column, side in sides.items():
            inside = [name for name in side if name in cube.domains]
            if not inside:
                continue
            for number, name in enumerate(classes):
                if name in cube.classes:
                    own = cube.runs_over(inside, (name,))
                    for one, strategy in enumerate(cube.strategies):
                        at = strategies.index(strategy)
                        dealt = _dealt(own[one, : cube.seeds[one]], int(fewest[at]))
                        runs[at, : fewest[at], rows[1].ravel(), column, number] = dealt.T
                    where = [cube.domains.index(one) for one in inside]
                    there = cube.present[:, :, where, cube.classes.index(name)].any(axis=2)
                    present[..., column, number][rows] = there
        regions.append(Region(group.label, "target", (group.label,), "*", "*"))
    centres: dict[str, set[str]] = {name: set() for name in patients}
    for cube in singles:
        for name, centre in zip(cube.patients, cube.centres, strict=True):
            centres[name] |= set(centre.split("+"))
    joined = ScoreCube(
        singles[0].measure, strategies, patients, domains, classes, nanmean(runs, axis=1), present, runs, fewest,
        tuple("+".join(sorted(centres[name])) for name in patients),
    )  # fmt: skip
    if present[:, :, len(groups) :].any():
        regions.append(Region(ALL_SOURCES, "source", tuple(own_side), "*", "*"))
    regions.append(Region(ALL_TARGETS, "target", tuple(group.label for group in groups), "*", "*"))
    return joined, regions


def joined_trainings(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Records of several folds or rotations as one table, their seeds numbered from 0 within each strategy.

    Trainings of several rotations have other seeds; the n-th of all together are one training of the recipe. Where a
    strategy has fewer trainings in one of them, the further ones of the others are left out.
    """
    counted: list[pd.DataFrame] = []
    fewest: dict[str, float] = {}
    for table in tables:
        numbers = table.groupby("strategy")["seed"].transform(lambda seeds: seeds.rank(method="dense"))
        counted.append(table.assign(seed=numbers.astype(np.int64) - 1))
        for name, size in numbers.groupby(table["strategy"]).max().items():
            fewest[str(name)] = min(size, fewest.get(str(name), np.inf))
    joined = pd.concat(counted, ignore_index=True)
    return joined[joined["seed"] < joined["strategy"].map(fewest)].reset_index(drop=True)


def _dealt(runs: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Trainings (s, patients) as ``size`` of them, the others averaged in: no rotation has fewer."""
    return np.stack([nanmean(runs[index::size], axis=0) for index in range(size)])


def _tested(cube: ScoreCube) -> list[str]:
    return [name for name in cube.domains if not name.endswith(" (own domains)")]


def _pairs(group: Group, cube: ScoreCube, picked: pd.DataFrame, config: StudyConfig) -> pd.DataFrame:
    """From the sources of one group to every domain that was tested."""
    targets = group.members[0].targets
    regions = [one for one in _regions(picked, cube.domains, group.sources, targets) if one.stain != "*"]
    table = Cells(cube, regions, DEFAULT_RULE, config).results()
    return table.assign(rotation=group.name, sources="; ".join(group.sources))[PAIR_COLUMNS]


def _one_table(
    groups: Sequence[Group],
    turns: Sequence[Rotation],
    tests: Mapping[str, pd.DataFrame],
    choices: Mapping[str, pd.DataFrame],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test records of all rotations, and the choices that fit them: domains become pairs, trials are told apart."""
    label = {turn.name: group.label for group in groups for turn in group.members}
    records, chosen = [], []
    for number, turn in enumerate(turns):
        rows, apart = tests[turn.name], number * _APART
        records.append(rows.assign(domain=label[turn.name] + ARROW + rows["domain"], trial=rows["trial"] + apart))
        domains = pd.DataFrame({"somewhere": rows["domain"].unique()})
        table = choices[turn.name].merge(domains, how="cross")
        table = table[(table["domain"] == ANY_DOMAIN) | (table["domain"] == table["somewhere"])]
        table = table.assign(domain=label[turn.name] + ARROW + table["somewhere"], trial=table["trial"] + apart)
        chosen.append(table.drop(columns="somewhere"))
    return pd.concat(records, ignore_index=True), pd.concat(chosen, ignore_index=True)


def insights_of_rotations(found: Together, config: StudyConfig, measure: str) -> Insights:
    """Ranks, sizes of effects and variance over all rotations; see :class:`~stainda.evaluation.insights.Insights`.

    Ranks and effects are of patients over the rotations (and classes) in which every strategy has a score. The variance
    is that of single pairs of sources and target domain.
    """
    cube = found.cubes[measure]
    rows = chosen_records(found.records, found.analysis.choices, DEFAULT_RULE)
    rows = rows[rows["domain"].isin(found.analysis.targets)]
    return insights_of(cube, _tested(cube), rows, config, measure)
