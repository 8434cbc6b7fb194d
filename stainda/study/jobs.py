"""One job: train a strategy under one setting and seed, then score it on every slide that may be scored.

Runs in a worker process. Whatever is complete in the job's folder is not done again.
"""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.errors import StaindaError, UnexpectedError
from stainda.files import write_json, write_text
from stainda.run_directory.contents import DONE, ERROR, SETTINGS
from stainda.run_directory.result_tables import JOB_UNSUPERVISED, RECORDS
from stainda.run_directory.training_tables import TRAINING
from stainda.study.attempts import attempt, forget, what_to_do
from stainda.study.executor import report_step, when_orphaned
from stainda.study.job_request import JobRequest, JobResult
from stainda.study.pruning import PRUNED, PrunedError, Pruning, read_curve, read_pruned
from stainda.study.tracking import curves

if TYPE_CHECKING:
    pass


def is_scored(folder: Path, scoring: str) -> bool:
    """Whether a job's records are complete and of this key (``keys.ScoringKeys``)."""
    done = DONE.inside(folder)
    return done.is_file() and done.read_text(encoding="utf-8") == scoring


def run_job(key: str, request: JobRequest) -> JobResult:
    """Train and score; a reason for failure is kept in the job's ``error.txt``.

    Raises:
        StaindaError: the job cannot be completed; the reason is in the message.
    """
    folder = request.folder.job(key)
    try:
        with attempt(folder), when_orphaned(lambda: forget(folder)):
            result = _train_and_score(folder, request)
    except StaindaError as error:
        _note(folder, f"{error}\n")
        raise
    except Exception as error:
        import traceback

        _note(folder, traceback.format_exc())
        raise UnexpectedError(
            f"{type(error).__name__}: {error}",
            file=ERROR.inside(folder),
            remedy=f"{what_to_do(error)}The file has the traceback",
        ) from error
    ERROR.inside(folder).unlink(missing_ok=True)
    return result


def _note(folder: Path, reason: str) -> None:
    """Keep why a job failed; where that cannot be written (a full disk), trials.csv of the leader still has it."""
    with contextlib.suppress(StaindaError, OSError):
        write_text(ERROR.inside(folder), reason)


def _train_and_score(folder: Path, request: JobRequest) -> JobResult:
    from stainda.patches import PatchStore
    from stainda.training import read_result, train

    epochs, pruning = request.job.training.epochs, request.pruning
    if (result := read_result(folder)) is None:
        epochs_done, started = 0, time.process_time()

        def on_epoch(epoch: int, score: float) -> None:
            nonlocal epochs_done
            epochs_done += 1
            report_step()
            write_curves()
            if pruning is not None and epoch < epochs:
                curve, patients = read_curve(folder)
                if pruning.stops({e: value for e, value in curve.items() if e <= epoch}, patients.get(epoch, {})):
                    raise PrunedError

        if request.pretraining is not None:
            from stainda.training.pretraining import pretrain

            pretrain(request.pretraining, request.store, request.folder.pretraining(request.job.pretrained))
        DONE.inside(folder).unlink(missing_ok=True)  # records of an earlier training are not of this one
        (folder / PRUNED).unlink(missing_ok=True)
        try:
            with curves(request, folder) as write_curves:
                result = train(request.job, PatchStore.open(request.store), folder, on_epoch=on_epoch)
        except PrunedError:
            assert pruning is not None
            report_step(max(0, epochs - epochs_done))
            return _give_up(
                folder, request.job.training.steps_per_epoch * epochs_done, pruning, time.process_time() - started
            )
        report_step(max(0, epochs - epochs_done))  # stopped early
    else:
        report_step(epochs)
    if not is_scored(folder, request.scoring):
        DONE.inside(folder).unlink(missing_ok=True)
        write_json(SETTINGS.inside(folder), request.job.settings())  # names and outlines may be others by now
        if not request.job.repeats:  # what checkpoints are chosen by
            look_at_targets(folder, request)
        from stainda.study.scoring import score_job

        score_job(folder, request)
        write_text(DONE.inside(folder), request.scoring)
    return JobResult(result.score, result.seconds, result.cpu_seconds, costs=result.costs)


def _give_up(folder: Path, step: int, pruning: Pruning, cpu_seconds: float) -> JobResult:
    """Write down that the job was pruned, and on what grounds."""
    from stainda.training.resume import remove_state

    remove_state(folder)
    with TRAINING.inside(folder).open(newline="", encoding="utf-8") as stream:
        last = [row for row in csv.DictReader(stream) if int(row["step"]) <= step][-1]
    result = JobResult(float(last["val_dice"]), float(last["seconds"]), round(cpu_seconds, 2), step)
    write_json(folder / PRUNED, {"key": pruning.key, "pruner": pruning.pruner, **pruned_row(result)})
    return result


def earlier_result(folder: Path, scoring: str, pruning: Pruning | None) -> JobResult | None:
    """The result of a job that is complete, or was pruned on the same grounds; ``None``: it is to be done.

    Args:
        scoring: key of the scores that it must have (``keys.ScoringKeys``).
    """
    from stainda.training import read_result

    if not is_scored(folder, scoring) or (result := read_result(folder)) is None:
        return pruned_result(folder, pruning)
    return JobResult(result.score, result.seconds, result.cpu_seconds, costs=result.costs)


def pruned_result(folder: Path, pruning: Pruning | None) -> JobResult | None:
    """The result of a job pruned earlier on the same grounds."""
    earlier = read_pruned(folder, pruning)
    return None if earlier is None else pruned_of(earlier)


def pruned_of(row: Mapping[str, Any]) -> JobResult:
    """The result of a job that was pruned, from what was written about it (:func:`pruned_row`)."""
    return JobResult(row["score"], row["seconds"], row["cpu_seconds"], int(row["step"]))


def pruned_row(result: JobResult) -> dict[str, Any]:
    """What is written of a job that was pruned."""
    return {
        "score": result.score, "seconds": result.seconds, "cpu_seconds": result.cpu_seconds, "step": result.pruned,
    }  # fmt: skip


def objective_values(folder: Path, score: float, objectives: Sequence[str]) -> list[float]:
    """The objectives of a scored job: all on validation patients of the source domains, at the best checkpoint.

    ``source_validation`` is the pooled Dice of the training's end; ``worst_source_domain`` and ``worst_source_patient``
    are the lowest mean Dice of a domain, and the lowest Dice of a patient, over whole slides.
    """
    from stainda.evaluation import patient_scores, read_records

    values = {"source_validation": score}
    if set(objectives) != set(values):
        records = read_records(RECORDS.inside(folder))
        rows = records[(records["split"] == "val") & (records["checkpoint"] == "best") & (records["measure"] == "dice")]
        scores = patient_scores(rows, ["domain", "class"]).dropna(subset=["value"])
        if scores.empty:
            raise StaindaError("no validation slide has a score", file=folder, remedy="Take one objective")
        values["worst_source_domain"] = float(scores.groupby("domain")["value"].mean().min())
        values["worst_source_patient"] = float(scores.groupby("patient")["value"].mean().min())
    return [values[name] for name in objectives]


def look_at_targets(folder: Path, request: JobRequest) -> None:
    """Score the job's checkpoints on unlabelled target patches that training may see; write ``unsupervised.csv``."""
    from stainda.cohort import Roles
    from stainda.patches import PatchStore, TrainingData
    from stainda.strategies.detector import CHECKPOINTS, Detector
    from stainda.training.unsupervised import unsupervised_scores

    job = request.job
    roles = Roles(job.sources, job.targets, job.domain_keys, job.protocol.visible)
    data = TrainingData(PatchStore.open(request.store), roles, labels="source", visible=job.protocol.visible)
    rows: list[dict[str, Any]] = []
    for checkpoint in CHECKPOINTS:
        scores = unsupervised_scores(Detector.load(folder, job.settings(), checkpoint), data)
        if scores:
            rows.append({"checkpoint": checkpoint, **{name: round(value, 6) for name, value in scores.items()}})
    JOB_UNSUPERVISED.write(folder, rows)
