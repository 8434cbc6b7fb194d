"""From the records of all jobs to those of the study, and to ``results.csv``."""

from __future__ import annotations

from stainda.config import StudyConfig
from stainda.errors import StaindaError
from stainda.files import whole_file
from stainda.run_directory.declaration import Table
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.result_tables import (
    ALIGNMENT_EFFECTS,
    AVERAGE_PRECISION,
    CONFUSION,
    JOB_UNSUPERVISED,
    OBJECTS,
    PROBABILITIES,
    RECORDS,
    REGRET,
    RESULTS,
    UNSUPERVISED,
)
from stainda.run_directory.slide_level_tables import SLIDE_SUMMARY
from stainda.run_directory.training_tables import EFFECT, TRIALS
from stainda.study.leaving_out import gather_left_out
from stainda.study.refitting import read_refits


def gather_results(config: StudyConfig, folder: RunFolder) -> None:
    """Write ``records.parquet`` (every job in ``trials.csv`` and ``refits.csv``), what lies next to it, and
    ``results.csv``.

    Raises:
        StaindaError: nothing has been trained here.
    """
    import pandas as pd

    from stainda.evaluation import (
        REFIT,
        gather_records,
        read_evidence,
        read_records,
        write_evidence,
        write_records,
    )

    path = TRIALS.at(folder.root)
    if not path.is_file():
        raise StaindaError("nothing has been trained here", file=folder.root, remedy="Run 'stainda train' first")
    tables = []
    evidence: dict[Table, list[pd.DataFrame]] = {OBJECTS: [], PROBABILITIES: []}
    if len(config.task.classes) > 1:
        evidence[CONFUSION] = []
    for row in pd.read_csv(path, dtype={"job": str}).itertuples():  # a hash of digits is no number
        if row.state == "complete":
            names = {"strategy": row.strategy, "trial": row.trial, "seed": row.seed}
            tables.append(read_records(RECORDS.inside(folder.job(str(row.job)))).assign(**names))
            for kind, parts in evidence.items():
                parts.append(read_evidence(kind.inside(folder.job(str(row.job))), kind.names).assign(**names))
    for row in read_refits(folder).itertuples():
        names = {"strategy": row.strategy, "trial": row.trial, "seed": row.seed, "checkpoint": REFIT}
        tables.append(read_records(RECORDS.inside(folder.job(str(row.job)))).assign(**names))
        for kind, parts in evidence.items():
            parts.append(read_evidence(kind.inside(folder.job(str(row.job))), kind.names).assign(**names))
    for kind, parts in evidence.items():
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(kind.names))
        write_evidence(table, kind.names, kind.at(folder.root))
    gather_unsupervised(folder)
    gather_effects(folder)
    write_records(gather_records(tables), RECORDS.at(folder.root))
    write_threshold_regret(folder)
    gather_left_out(folder)
    summarise_records(config, folder)


def write_threshold_regret(folder: RunFolder) -> None:
    """Write ``threshold_regret.csv``: of every training and domain, what the threshold lost against the best one."""
    import pandas as pd

    from stainda.evaluation import read_records
    from stainda.evaluation.threshold_regret import threshold_regret

    pixels = pd.read_parquet(PROBABILITIES.at(folder.root))
    result = threshold_regret(pixels, read_records(RECORDS.at(folder.root))).trainings
    REGRET.write_frame(folder.root, result, float_format="%.6f")


def gather_unsupervised(folder: RunFolder) -> None:
    """Write ``unsupervised.csv``: the scores of every checkpoint on unlabelled targets, for the selection rules."""
    import pandas as pd

    columns = ["strategy", "trial", "seed", "checkpoint"]
    result = []
    for row in pd.read_csv(TRIALS.at(folder.root), dtype={"job": str}).itertuples():
        path = JOB_UNSUPERVISED.inside(folder.job(str(row.job)))
        if row.state == "complete" and path.is_file():
            table = pd.read_csv(path)
            for at, (name, value) in enumerate(zip(columns, (row.strategy, row.trial, row.seed), strict=False)):
                table.insert(at, name, value)  # also where the table has no row: nothing unlabelled was seen
            result.append(table)
    table = pd.concat(result, ignore_index=True) if result else pd.DataFrame(columns=columns)
    UNSUPERVISED.write_frame(folder.root, table)


def gather_effects(folder: RunFolder) -> None:
    """Write ``alignment_effects.csv``: whether the alignment of each training acted, from its ``effect.csv``."""
    import pandas as pd

    from stainda.evaluation.effect import judge_effect

    names = ("trial", "seed", "job")
    rows = []
    for row in pd.read_csv(TRIALS.at(folder.root), dtype={"job": str}).itertuples():
        path = EFFECT.inside(folder.job(str(row.job)))
        if row.state == "complete" and path.is_file():
            result = judge_effect(str(row.strategy), pd.read_csv(path))
            rows.append({**vars(result), **{name: getattr(row, name) for name in names}})
    ALIGNMENT_EFFECTS.write_frame(folder.root, pd.DataFrame(rows, columns=list(ALIGNMENT_EFFECTS.names)))


def check_gathered(folder: RunFolder) -> None:
    """Refuse to report what was not gathered, or belongs to other trainings than those in ``trials.csv``.

    Raises:
        StaindaError: there are no records, or they are of earlier settings.
    """
    import pandas as pd

    from stainda.evaluation import read_records

    target = RECORDS.at(folder.root)
    if not target.is_file() and SLIDE_SUMMARY.at(folder.root).is_file():
        return  # labels of slides have no records: they count no pixels and no objects
    if not target.is_file():
        raise StaindaError("there are no records here yet", file=folder.root, remedy="Run 'stainda run' first")
    trials = pd.read_csv(TRIALS.at(folder.root), dtype={"job": str}, usecols=["job"])
    try:
        jobs = pd.read_parquet(target, columns=["job"])["job"]
    except Exception:  # pyarrow raises many kinds; the reader of records says what is wrong with the file
        jobs = read_records(target)["job"]
    refits = set(read_refits(folder)["job"])
    if not refits <= set(jobs) <= set(trials["job"]) | refits:
        raise StaindaError(
            "the records are of trainings made with other settings than those the run now has",
            file=target,
            remedy="Run 'stainda run' to its end first",
        )


def summarise_records(config: StudyConfig, folder: RunFolder) -> None:
    """Write ``results.csv`` from ``records.parquet`` and ``trials.csv`` alone, and ``average_precision.csv``."""
    import pandas as pd

    from stainda.evaluation import OBJECT_COLUMNS, analyse, one_rotation, read_evidence, read_records
    from stainda.evaluation.dataset_precision import precision_of_study
    from stainda.report.loading import with_earlier_strategies

    check_gathered(folder)
    trials = pd.read_csv(TRIALS.at(folder.root), dtype={"job": str})
    config = with_earlier_strategies(config, trials, folder.root)
    records = read_records(RECORDS.at(folder.root))
    with whole_file(RESULTS.at(folder.root)) as aside:
        unsupervised = pd.read_csv(UNSUPERVISED.at(folder.root))
        analysis = analyse([one_rotation(records, config, trials, unsupervised)], config)
        analysis.results.to_csv(aside, index=False)
    objects = read_evidence(OBJECTS.at(folder.root), OBJECT_COLUMNS)
    AVERAGE_PRECISION.write_frame(folder.root, precision_of_study(objects, analysis, config.evaluation))
