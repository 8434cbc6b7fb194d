"""Which trained job is applied to new slides: that of the strategy the report names, chosen without target labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.errors import StaindaError, did_you_mean
from stainda.files import load_json
from stainda.links import refuse_links
from stainda.run_directory.contents import SETTINGS
from stainda.run_directory.folder import read_study
from stainda.run_directory.training_tables import TRIALS

if TYPE_CHECKING:
    from stainda.report.run import LoadedRun
    from stainda.report.study_view import StudyView


@dataclass(frozen=True)
class DetectorChoice:
    """A trained job, and why it was taken: a sentence each.

    ``seed`` and ``trial`` are ``None`` where a job's folder was named and its study says nothing of it.
    """

    folder: Path
    strategy: str
    label: str
    checkpoint: str
    reasons: tuple[str, ...]
    trial: int | None = None
    seed: int | None = None


def choose_job(
    place: str | Path,
    *,
    strategy: str | None = None,
    job: str | None = None,
    seed: int | None = None,
    checkpoint: str | None = None,
) -> DetectorChoice:
    """The job of a run that is to be applied.

    Without anything else said: the strategy that the report names first, which never learned from target labels; its
    trial and checkpoint as chosen on source validation; of its trainings, the one with the best score there.

    Args:
        place: a run directory, or a job's folder in one (``RUN/jobs/HASH``).
        strategy: another strategy of the study. job: the name of a job, or how it begins. seed: another training.
        checkpoint: ``best`` or ``last``.

    Raises:
        StaindaError: there is no such run, strategy, job or training, or it did not end; the message names those that
            there are.
    """
    folder = Path(place)
    refuse_links(folder)
    if SETTINGS.inside(folder).is_file():
        if strategy or job or seed is not None:
            raise StaindaError(
                "this is the folder of one job already", file=folder,
                remedy="Give the run directory to choose among its strategies, jobs and seeds",
            )  # fmt: skip
        return _named(folder, checkpoint)
    if job is not None:
        if strategy or seed is not None:
            raise StaindaError("--job says it all", remedy="Leave out --strategy and --seed")
        return _named(_job_folder(folder, job), checkpoint)
    return _best(folder, strategy, seed, checkpoint)


def trainings_of(run: str | Path, strategy: str, trial: int) -> tuple[str, ...]:
    """Names of the finished trainings of a trial, the best on source validation first.

    Raises:
        StaindaError: there is none.
    """
    from stainda.report.loading import load_run

    return tuple(_trainings(load_run(Path(run)), strategy, trial)["job"].astype(str))


def _named(folder: Path, checkpoint: str | None) -> DetectorChoice:
    try:
        settings: dict[str, Any] = load_json(SETTINGS.inside(folder))
        strategy = settings["strategy"]
        name, label = str(strategy["name"]), str(strategy.get("title") or strategy["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StaindaError(
            f"settings.json cannot be used ({error}): not a finished job", file=folder,
            remedy="Name a folder RUN/jobs/HASH of a finished study",
        ) from error  # fmt: skip
    return DetectorChoice(
        folder, name, label, checkpoint or "best", ("the job that was named",), seed=settings.get("seed")
    )


def _job_folder(run: Path, job: str) -> Path:
    names = sorted(path.name for path in (run / "jobs").glob("*") if path.is_dir())
    result = [name for name in names if name == job] or [name for name in names if name.startswith(job)]
    if len(result) != 1:
        what = f"{len(result)} jobs begin with {job!r}" if result else f"there is no job {job!r}"
        raise StaindaError(what, file=run / "jobs", remedy=did_you_mean(job, names))
    return run / "jobs" / result[0]


def _best(folder: Path, strategy: str | None, seed: int | None, checkpoint: str | None) -> DetectorChoice:
    read_study(folder)  # a wrong folder is reported before the report's packages are imported
    from stainda.evaluation import REFIT
    from stainda.report.loading import load_run
    from stainda.report.study_view import make_view

    run = load_run(folder)
    if run.rotates:
        raise StaindaError(
            "a study of several rotations trained every strategy several times", file=folder,
            remedy="Give the folder of one of its rotations, below rotations/",
        )  # fmt: skip
    view = make_view(run)
    if strategy is None:
        name, why = _strategy(run, view)
    else:
        known = list(dict.fromkeys(run.trials["strategy"]))
        if strategy not in known:
            raise StaindaError(
                f"the study trained no strategy {strategy!r}", file=folder, remedy=did_you_mean(strategy, known)
            )
        name, why = strategy, f"the strategy that was requested{_labels(run, strategy)}"
    trial, chosen = _trial(run, view, name)
    jobs = _trainings(run, name, trial)
    if seed is not None:
        if seed not in set(jobs["seed"]):
            trained_seeds = ", ".join(map(str, jobs["seed"]))
            raise StaindaError(
                f"{name} was not trained with seed {seed}", file=folder, remedy=f"There are: {trained_seeds}"
            )
        row, of = jobs[jobs["seed"] == seed].iloc[0], "the training that was requested"
    else:
        row = jobs.iloc[0]
        score = f" ({row['value']:.3f})" if math.isfinite(row["value"]) else ""
        of = f"of {len(jobs)} trainings of it the best on source validation{score}" if len(jobs) > 1 else "its training"
    job = run.reported_job(row["job"])
    if job != str(row["job"]):
        of += ", made again from all source patients"
    checkpoint = checkpoint or ("best" if chosen == REFIT else chosen)
    return DetectorChoice(folder / "jobs" / job, name, run.label(name), checkpoint, (why, of), trial, int(row["seed"]))


def _strategy(run: LoadedRun, view: StudyView | None) -> tuple[str, str]:
    from stainda.report.leading import named_first

    result = None if view is None else named_first(run, view.analysis)
    if result is None:
        names = ", ".join(dict.fromkeys(run.trials["strategy"])) or "none"
        raise StaindaError(
            "no strategy was scored on test patients yet, so none is the best", file=run.folder,
            remedy=f"Run the study to its end, or name one with --strategy (trained: {names})",
        )  # fmt: skip
    return result


def _labels(run: LoadedRun, strategy: str) -> str:
    from stainda.evaluation.groups import group_of

    return "" if group_of(run.study, strategy) == "without" else "; it learned from labels of the targets"


def _trial(run: LoadedRun, view: StudyView | None, strategy: str) -> tuple[int, str]:
    """Trial and checkpoint that source validation chose."""
    from stainda.evaluation.selection import DEFAULT_RULE

    if view is not None:
        choices = view.analysis.choices
        mine = choices[(choices["strategy"] == strategy) & (choices["selection"] == DEFAULT_RULE)]
        if len(mine):
            return int(mine.iloc[0]["trial"]), str(mine.iloc[0]["checkpoint"])
    rows = run.trials[(run.trials["strategy"] == strategy) & run.trials["chosen"]]
    if rows.empty:
        raise StaindaError(
            f"no trial of {strategy} was chosen yet", file=TRIALS.at(run.folder),
            remedy="Run the study to its end, or name a job with --job",
        )  # fmt: skip
    return int(rows.iloc[0]["trial"]), "best"


def _trainings(run: LoadedRun, strategy: str, trial: int) -> Any:
    """The finished trainings of a trial, the best on source validation first (of equal ones the lowest seed)."""
    rows = run.trials[(run.trials["strategy"] == strategy) & (run.trials["trial"] == trial)]
    is_done = [name in run.jobs and run.jobs[name].done for name in rows["job"]]
    rows = rows[is_done].assign(seed=lambda table: table["seed"].astype(int))
    if rows.empty:
        raise StaindaError(
            f"the trained jobs of {strategy} are not in this run", file=run.folder / "jobs",
            remedy="Run the study again to train them",
        )  # fmt: skip
    return rows.sort_values(["value", "seed"], ascending=[False, True], na_position="last", kind="stable")
