"""Several rotations as one study: a patient that is tested in several of them counts once.

Within a rotation a patient's score is what it is in a study of that rotation alone: the mean over its target domains.
Over all rotations it is the patient's mean over the rotations that tested it as a target; every interval and test is
over patients and trainings, never over (rotation, patient) pairs. The n-th trainings of all rotations are one training
of the recipe. Differences are taken within a rotation before they are averaged, so a strategy that lacks a rotation is
compared on the others alone. The folds of one set of sources are one cohort: each patient has the scores of the fold
that tested it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from stainda.evaluation.scores import ScoreCube, nanmean
from stainda.evaluation.selection import ANY_DOMAIN
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS, Region

ARROW = " → "
_APART = 1_000_000
"""Trials of the n-th rotation are numbered from n times this where records of several rotations are one table."""


@dataclass(frozen=True)
class RotationRecords:
    """What one rotation left: its records of all trials and checkpoints, and what its choices are made from.

    Attributes:
        name: empty where it is the only one of a study that does not rotate.
        group: the same for the folds of one set of sources.
        tested: the domains that the question is about; the sources themselves where the folds of a study are tested in
            other patients of the same domains (scheme ``pooled``).
    """

    name: str
    group: str
    sources: tuple[str, ...]
    tested: tuple[str, ...]
    records: pd.DataFrame
    trials: pd.DataFrame | None = None
    unsupervised: pd.DataFrame | None = None

    @cached_property
    def test(self) -> pd.DataFrame:
        """The records of test patients."""
        return self.records[self.records["split"] == "test"]

    @property
    def scored(self) -> bool:
        return not self.test.empty


@dataclass(frozen=True)
class Group:
    """Rotations that differ by their fold only; mostly one. ``label`` is its name in every table of the study."""

    name: str
    label: str
    members: tuple[RotationRecords, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return self.members[0].sources

    @property
    def tested(self) -> tuple[str, ...]:
        """The domains that the question is about."""
        return self.members[0].tested

    @property
    def untested_sources(self) -> tuple[str, ...]:
        """Sources in other patients, in addition to the question."""
        return tuple(name for name in self.sources if name not in self.tested)

    @property
    def test(self) -> pd.DataFrame:
        """The records of test patients of all members."""
        return pd.concat([member.test for member in self.members], ignore_index=True)


def group_rotations(rotations: Sequence[RotationRecords]) -> tuple[Group, ...]:
    """Rotations by group, in their order."""
    groups = []
    for name in dict.fromkeys(rotation.group for rotation in rotations):
        members = tuple(rotation for rotation in rotations if rotation.group == name)
        shown = name if len(members) > 1 else members[0].name
        label = f"from {shown}" if shown in (*members[0].sources, *_fold_names(members[0])) else shown.replace("_", " ")
        groups.append(Group(shown, label, members))
    return tuple(groups)


def _fold_names(rotation: RotationRecords) -> tuple[str, ...]:
    """``PAS@A.fold_2`` where it is the only fold of its group that was run."""
    return (rotation.name,) if rotation.group in rotation.sources else ()


def pair_label(label: str, domain: str) -> str:
    """From the sources of a group to a domain; the domain where the only rotation of a study has no name."""
    return f"{label}{ARROW}{domain}" if label else domain


def labelled(rotations: Sequence[RotationRecords], groups: Sequence[Group]) -> pd.DataFrame:
    """Test records of all rotations as one table: domains become pairs, and trials of two rotations differ."""
    labels = _labels(groups)
    return pd.concat(
        [
            rotation.test.assign(
                domain=[pair_label(labels[rotation.name], name) for name in rotation.test["domain"]],
                trial=rotation.test["trial"] + number * _APART,
            )
            for number, rotation in enumerate(rotations)
        ],
        ignore_index=True,
    )


def labelled_choices(
    rotations: Sequence[RotationRecords], groups: Sequence[Group], choices: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """The choices of all rotations, by name, as they fit :func:`labelled` records."""
    labels, tables = _labels(groups), []
    for number, rotation in enumerate(rotations):
        if not labels[rotation.name]:
            return choices[rotation.name]
        domains = pd.DataFrame({"somewhere": rotation.test["domain"].unique()})
        table = choices[rotation.name].merge(domains, how="cross")
        table = table[(table["domain"] == ANY_DOMAIN) | (table["domain"] == table["somewhere"])]
        domain = [pair_label(labels[rotation.name], name) for name in table["somewhere"]]
        table = table.assign(domain=domain, trial=table["trial"] + number * _APART)
        tables.append(table.drop(columns="somewhere"))
    return pd.concat(tables, ignore_index=True)


def _labels(groups: Sequence[Group]) -> dict[str, str]:
    return {member.name: group.label for group in groups for member in group.members}


@dataclass(frozen=True)
class PooledCube(ScoreCube):
    """Scores of several groups as one cube whose domains are the groups, made of a cube per group.

    ``has_score`` and ``common`` are about the domains of the groups: a patient's mean over the domains of a rotation is
    no score that strategies can be compared on before they are reduced to the domains that all have.

    Attributes:
        groups, singles: what the cube was made of; the domains of ``singles`` are domains.
    """

    groups: tuple[Group, ...]
    singles: tuple[ScoreCube, ...]

    def has_score(
        self, members: Sequence[int], domains: Sequence[str], classes: Sequence[str]
    ) -> npt.NDArray[np.bool_]:
        names = [self.strategies[index] for index in members]
        blocks = [np.zeros((len(names), 0), bool)]
        for cube, inside in self._parts(domains):
            known = [name for name in classes if name in cube.classes]
            own = {name: cube.has_score([at], inside, known)[0] for at, name in enumerate(cube.strategies)}
            none = np.zeros(len(cube.patients) * len(inside) * len(known), bool)
            blocks.append(np.stack([own.get(name, none) for name in names]))
        return np.concatenate(blocks, axis=1)

    def is_single(self, domains: Sequence[str]) -> bool:
        return sum(len(inside) for _, inside in self._parts(domains)) < 2

    def common(self, members: Sequence[int]) -> ScoreCube:
        names = tuple(self.strategies[index] for index in members)
        singles = tuple(_common_to(cube, names) for cube in self.singles)
        chosen = replace(
            self, strategies=names, values=self.values[list(members)], present=self.present[list(members)],
            runs=self.runs[list(members)], seeds=self.seeds[list(members)], singles=singles,
        )  # fmt: skip
        runs = np.full(chosen.runs.shape, np.nan)
        for column, (cube, inside) in enumerate(chosen._columns()):
            _write(chosen, runs, cube, inside, column)
        return replace(chosen, runs=runs, values=nanmean(runs, axis=1))

    def _columns(self) -> Iterator[tuple[ScoreCube, list[str]]]:
        """The cube and those of its domains that each domain of this cube is a mean over."""
        for of in ("tested", "untested_sources"):
            for group, cube in zip(self.groups, self.singles, strict=True):
                yield cube, [name for name in getattr(group, of) if name in cube.domains]

    def _parts(self, domains: Sequence[str]) -> Iterator[tuple[ScoreCube, list[str]]]:
        for name, part in zip(self.domains, self._columns(), strict=True):
            if name in domains:
                yield part


def _common_to(cube: ScoreCube, names: Sequence[str]) -> ScoreCube:
    """Those of the strategies that the cube has, on what all have: nothing where it lacks one of them."""
    known = [name for name in names if name in cube.strategies]
    common = cube.common([cube.strategies.index(name) for name in known])
    if len(known) == len(names):
        return common
    return replace(common, values=np.full_like(common.values, np.nan), runs=np.full_like(common.runs, np.nan))


def pooled_scores(groups: Sequence[Group], singles: Sequence[ScoreCube]) -> tuple[PooledCube, list[Region]]:
    """Scores of several groups as one cube whose domains are the groups, and its regions.

    Args:
        singles: of one measure, a cube per group, whose domains are domains.
    """
    strategies = tuple(dict.fromkeys(name for cube in singles for name in cube.strategies))
    known = max(singles, key=lambda cube: len(cube.strategies)).strategies
    strategies = (*known, *(name for name in strategies if name not in known))
    patients = tuple(sorted({name for cube in singles for name in cube.patients}))
    classes = max(singles, key=lambda cube: len(cube.classes)).classes
    labels = tuple(group.label for group in groups)
    own_side = tuple(f"{label} (own domains)" for label in labels)
    seeds = np.zeros((len(groups), len(strategies)), np.int64)
    for place, cube in enumerate(singles):
        seeds[place, [strategies.index(name) for name in cube.strategies]] = cube.seeds
    fewest = np.where(seeds > 0, seeds, np.iinfo(np.int64).max).min(axis=0)
    shape = (len(strategies), len(patients), 2 * len(groups), len(classes))
    runs = np.full((shape[0], int(fewest.max(initial=0)), *shape[1:]), np.nan)
    centres: dict[str, set[str]] = {name: set() for name in patients}
    for cube in singles:
        for name, centre in zip(cube.patients, cube.centres, strict=True):
            centres[name] |= set(centre.split("+"))
    pooled = PooledCube(
        singles[0].measure, strategies, patients, (*labels, *own_side), classes, np.full(shape, np.nan),
        np.zeros(shape, bool), runs, fewest, tuple("+".join(sorted(centres[name])) for name in patients),
        tuple(groups), tuple(singles),
    )  # fmt: skip
    for column, (cube, inside) in enumerate(pooled._columns()):
        _write(pooled, runs, cube, inside, column)
        _mark_present(pooled, cube, inside, column)
    regions = [Region(label, "target", (label,), "*", "*") for label in labels]
    if pooled.present[:, :, len(groups) :].any():
        regions.append(Region(ALL_SOURCES, "source", own_side, "*", "*"))
    regions.append(Region(ALL_TARGETS, "target", labels, "*", "*"))
    return replace(pooled, values=nanmean(runs, axis=1)), regions


def _write(
    pooled: ScoreCube, runs: npt.NDArray[np.float64], cube: ScoreCube, domains: Sequence[str], column: int
) -> None:
    """Write each patient's mean over ``domains`` of a cube into one column of the ``runs`` of the pooled one."""
    if not domains:
        return
    people = [pooled.patients.index(name) for name in cube.patients]
    for name in cube.classes:
        number, own = pooled.classes.index(name), cube.runs_over(domains, (name,))
        for place, strategy in enumerate(cube.strategies):
            at = pooled.strategies.index(strategy)
            size = int(pooled.seeds[at])
            runs[at, :size, people, column, number] = _dealt(own[place, : cube.seeds[place]], size).T


def _mark_present(pooled: ScoreCube, cube: ScoreCube, domains: Sequence[str], column: int) -> None:
    where = [cube.domains.index(name) for name in domains]
    names = [pooled.strategies.index(name) for name in cube.strategies]
    people = [pooled.patients.index(name) for name in cube.patients]
    for number, name in enumerate(cube.classes):
        there = cube.present[:, :, where, number].any(axis=2)
        pooled.present[..., column, pooled.classes.index(name)][np.ix_(names, people)] = there


def by_rotation(records: pd.DataFrame) -> list[pd.DataFrame]:
    """:func:`labelled` records, a table per rotation."""
    return [rows for _, rows in records.groupby(records["trial"] // _APART, sort=True)]


def joined_trainings(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Records of several folds or rotations as one table, their seeds numbered from 0 within each strategy.

    Trainings of several rotations have other seeds; the n-th of all together are one training of the recipe. Where a
    strategy has fewer trainings in one of them, the further ones of the others are left out.
    """
    if len(tables) == 1:
        return tables[0]
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
