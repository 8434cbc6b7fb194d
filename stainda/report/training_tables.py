"""Tables about trainings: what was lost by the threshold, whether they had converged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.convergence import RISING, judge_curve, rising_sentence
from stainda.evaluation.left_out import ALL
from stainda.evaluation.pooling import pair_label
from stainda.evaluation.threshold_regret import ThresholdRegret, mean_regret, threshold_regret
from stainda.report.figure_registry import register_score_table, register_table
from stainda.report.registered_scores import pair_words
from stainda.report.result_tables import strategy_cell
from stainda.report.run import LoadedRun, RotationResult
from stainda.report.study_view import StudyView
from stainda.report.tables import Cell, PageTable, decimal, ends, number, signed, spread_words, text
from stainda.run_directory.training_tables import LEAVE_ONE_OUT


@register_score_table("threshold_regret")
def lost_by_threshold(view: StudyView, measure: str) -> PageTable | None:
    """One row per strategy: the thresholds in use, and the Dice they lost on all targets."""
    run, study = view.run, view.run.study
    result = [(rotation, threshold_regret(rotation.probabilities, rotation.records)) for rotation in run.scored]
    result = [(rotation, regret) for rotation, regret in result if len(regret.trainings)]
    if not result:
        return None
    chosen = run.trials[run.trials["chosen"].astype(bool) & run.trials["state"].eq("complete")]
    rows, kinds = [], set()
    for name in view.look.order:
        jobs = {run.reported_job(job) for job in chosen.loc[chosen["strategy"] == name, "job"]}
        mine = [_chosen_on_targets(view, rotation, regret, jobs) for rotation, regret in result]
        table = pd.concat([trainings for trainings, _ in mine])
        lost = mean_regret([patients for _, patients in mine], study.evaluation)
        if table.empty or lost is None:
            continue
        kinds.add(lost.kinds[0])
        spread = {"low": lost.low[0], "high": lost.high[0], "interval_kind": lost.kinds[0]}
        by_domain = table.groupby("shown")["lost"].mean()
        rows.append(
            [
                strategy_cell(run, name),
                Cell(_between(table["threshold"]), sort=float(table["threshold"].mean()), number=True),
                Cell(_between(table["best_threshold"]), sort=float(table["best_threshold"].mean()), number=True),
                number(table["dice"].mean(), 3),
                Cell(decimal(lost.mean[0], 3), ends(spread, 3), float(lost.mean[0]), True),
                text(f"{by_domain.idxmax()} ({decimal(by_domain.max(), 3)})"),
            ]
        )
    if not rows:
        return None
    columns = ["Strategy", "Threshold", "Best thresholds", "Dice", "Lost", "Most lost on"]
    note = (
        f"Under a Dice lost: {spread_words(kinds, view.level)}. Best thresholds: of highest Dice on the test slides of "
        "each target domain, in steps of 0.05. They are found on the labels that they are scored on, so this is the "
        "most that any threshold could have gained. They choose nothing: a diagnosis of calibration, not a result."
    )
    frame = pd.concat([_with_roles(view, rotation, regret.trainings) for rotation, regret in result], ignore_index=True)
    return PageTable("threshold_regret", "Dice lost by the threshold, all targets.", columns, rows, frame, note)


def _chosen_on_targets(
    view: StudyView, rotation: RotationResult, regret: ThresholdRegret, jobs: set[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of the chosen trainings of one rotation, what they lost on its targets: by training, and by patient."""
    label = view.label_of(rotation)

    def mine(table: pd.DataFrame) -> pd.DataFrame:
        pairs = table["domain"].map(lambda name: pair_label(label, name))
        return table[table["job"].isin(jobs) & pairs.isin(view.analysis.targets)]

    trainings, patients = mine(regret.trainings), mine(regret.patients)
    shown = [pair_words(label, name) if label else name for name in trainings["domain"]]
    return trainings.assign(shown=shown), patients


def _with_roles(view: StudyView, rotation: RotationResult, trainings: pd.DataFrame) -> pd.DataFrame:
    label = view.label_of(rotation)
    table = trainings.drop(columns="job").assign(role=[_role(view, rotation, name) for name in trainings["domain"]])
    if label:
        table.insert(0, "rotation", rotation.name)
    return table


def _role(view: StudyView, rotation: RotationResult, domain: str) -> str:
    if pair_label(view.label_of(rotation), domain) in view.analysis.targets:
        return "target"
    return "source" if domain in (rotation.sources if rotation.name else view.analysis.sources) else "other"


def _between(values: pd.Series) -> str:
    low, high = decimal(values.min()), decimal(values.max())
    return low if low == high else f"{low} to {high}"


def states(run: LoadedRun) -> pd.DataFrame:
    """The chosen trainings: strategy, seed, job, ``converged``, ``rise``, best epoch and epochs."""
    rows = []
    for row in run.trials.to_dict("records") if len(run.trials) else []:
        job = run.jobs.get(str(row["job"]))
        if not row["chosen"] or job is None or job.curve is None or "val_dice" not in job.curve:
            continue
        scores = job.curve["val_dice"].to_numpy(float)
        result = judge_curve(scores)
        place = {"strategy": row["strategy"], "seed": row["seed"], "job": row["job"]}
        best = int(np.argmax(scores)) + 1 if len(scores) else 0
        rows.append(
            {**place, "converged": result.state, "rise": result.rise, "best_epoch": best, "epochs": len(scores)}
        )
    columns = ["strategy", "seed", "job", "converged", "rise", "best_epoch", "epochs"]
    return pd.DataFrame(rows, columns=columns)


@register_table("convergence")
def convergence(run: LoadedRun) -> PageTable | None:
    """One row per strategy, those whose validation still rose first."""
    frame = states(run)
    if frame.empty:
        return None
    rows = []
    for name, mine in frame.groupby("strategy", sort=False):
        rising = int(mine["converged"].eq(RISING).sum())
        counts = mine["converged"].value_counts()
        words = ", ".join(f"{number} {_WORDS.get(str(state), state)}" for state, number in counts.items())
        cells = [
            strategy_cell(run, str(name)), text(words), Cell(decimal(mine["rise"].mean(), 3), number=True),
            Cell(f"{decimal(mine['best_epoch'].median(), 0)} of {decimal(mine['epochs'].median(), 0)}", number=True),
        ]  # fmt: skip
        rows.append((-rising, cells))
    rows.sort(key=lambda row: row[0])
    note = (
        "Rise: mean source validation score of the last quarter of the epochs minus that of the quarter before. Still "
        "rising: more than noise from epoch to epoch explains, and more than 0.01. A flat end says that the schedule "
        "had ended; whether more steps would give more, only more steps tell."
    )
    columns = ["Strategy", "Trainings", "Rise", "Best epoch"]
    return PageTable("convergence", "Had the trainings converged?", columns, [row for _, row in rows], frame, note)


_WORDS = {"yes": "converged", "no": "still rising", "too few epochs": "with too few epochs to say"}


def convergence_words(run: LoadedRun) -> str:
    """One sentence where trainings had not converged; else empty."""
    frame = states(run)
    pairs = frame[["strategy", "converged"]].itertuples(index=False)
    sentence = rising_sentence([(run.label(str(name)), str(state)) for name, state in pairs])
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


@register_table("who_taught", rotations="one")
def who_taught(run: LoadedRun) -> PageTable | None:
    """One row per strategy that was trained again without each of its patients, on all targets."""
    frame = run.tables[LEAVE_ONE_OUT.path]
    if "domain" not in frame or frame.empty:
        return None
    rows = []
    for name, mine in frame[frame["domain"] == ALL].groupby("strategy", sort=False):
        left, whole = mine[mine["without"] != ""], mine[mine["without"] == ""]
        if left.empty or whole.empty:
            continue
        most = left.loc[left["difference"].abs().idxmax()]
        rows.append(
            [
                strategy_cell(run, str(name)),
                Cell(decimal(most["dice"] - most["difference"], 3), sort=float(most["dice"]), number=True),
                text(_span(whole["dice"])),
                text(_span(left["dice"])),
                text(f"{most['without']} ({signed(most['difference'], 3)})"),
                number(len(left), 0),
            ]
        )
    columns = ["Strategy", "With all", "Other seeds, all", "Without one", "Changed most without", "Patients"]
    note = (
        "Dice on all targets. Each training without a patient has the seed of the one with all. What another seed "
        "alone changes is in the third column: a difference within it may be chance."
    )
    return (
        PageTable("leave_one_out", "How the result depends on who taught.", columns, rows, frame, note)
        if rows
        else None
    )


def _span(values: pd.Series) -> str:
    return decimal(values.min(), 3) if len(values) == 1 else f"{decimal(values.min(), 3)} to {decimal(values.max(), 3)}"


def who_taught_words(run: LoadedRun) -> str:
    """That it was not measured, where few taught; else empty."""
    count = _teachers(run, "train")
    if run.rotates or run.study.left_out_of or not 1 < count < FEW_PATIENTS:
        return ""
    return (
        f"Only {count} patients were used for training. How much the result depends on which patients these are was "
        "not measured: with protocol.leave_one_patient_out=true the baseline is trained again without each of them."
    )


def refit_words(run: LoadedRun) -> str:
    """That chosen settings could be trained again with the patients who validate, where few taught; else empty."""
    count, kept = _teachers(run, "train"), _teachers(run, "val")
    if run.rotates or run.study.protocol.refit or not (0 < count < FEW_PATIENTS and kept):
        return ""
    return (
        f"{kept} of {count + kept} source patients served validation only. With protocol.refit=true the chosen "
        "settings are trained again on all of them."
    )


def _teachers(run: LoadedRun, split: str) -> int:
    rows = run.cohort
    return rows.loc[rows["role"].eq("source") & rows["split"].eq(split), "patient"].nunique() if len(rows) else 0
