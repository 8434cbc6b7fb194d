"""Trainings without one of the source's patients: who is left out, and what they came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stainda.cohort import Cohort, Roles, Rotation
from stainda.config import StudyConfig
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.result_tables import RECORDS
from stainda.run_directory.tables import COHORT
from stainda.run_directory.training_tables import LEAVE_ONE_OUT, LEFT_OUT


def source_patients(cohort: Cohort, roles: Roles, split: Literal["train", "val"]) -> tuple[str, ...]:
    """Patients of a split with annotated sections of a source domain."""
    inside = cohort.where(domains=roles.sources, splits=[split])
    return tuple(dict.fromkeys(section.patient for section in inside if section.annotations is not None))


def teachers(cohort: Cohort, roles: Roles) -> tuple[str, ...]:
    """Training patients with annotated sections of a source domain; none where a single one teaches."""
    patients = source_patients(cohort, roles, "train")
    return patients if len(patients) > 1 else ()


def trainings_without(config: StudyConfig, rotations: Sequence[Rotation]) -> int:
    """How many trainings without a patient each strategy named in the study adds, over all rotations."""
    return sum(len(teachers(rotation.cohort, rotation.roles)) for rotation in rotations) if config.left_out_of else 0


def gather_left_out(folder: RunFolder) -> None:
    """Write ``leave_one_out.csv`` from the records of the trainings that ``left_out.csv`` names."""
    import pandas as pd

    from stainda.evaluation import read_records
    from stainda.evaluation.left_out import leave_one_out

    path, out = LEFT_OUT.at(folder.root), LEAVE_ONE_OUT.at(folder.root)
    if not path.is_file():
        out.unlink(missing_ok=True)
        return
    rows = pd.read_csv(path, dtype={"job": str, "without": str})
    rows = rows[rows["state"] == "complete"]
    cohort = pd.read_csv(COHORT.at(folder.root), dtype=str)
    targets = set(cohort.loc[cohort["role"] == "target", "domain"]) or set(cohort["domain"])
    records = read_records(RECORDS.at(folder.root))
    tables = []
    for strategy, mine in rows.groupby("strategy", sort=False):
        left = [
            read_records(RECORDS.inside(folder.job(str(row.job)))).assign(strategy=strategy, without=row.without)
            for row in mine.itertuples()
        ]
        whole = records[(records["strategy"] == strategy) & (records["trial"] == int(mine["trial"].iloc[0]))]
        tables.append(leave_one_out(whole, pd.concat(left), targets, int(mine["seed"].iloc[0])))
    table = pd.concat(tables) if tables else pd.DataFrame(columns=list(LEAVE_ONE_OUT.needed))
    LEAVE_ONE_OUT.write_frame(folder.root, table, float_format="%.6f")
