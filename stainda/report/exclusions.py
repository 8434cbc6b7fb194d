"""Slides and trainings that are not reported, or were given up: what the page says of each."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from stainda.report.run import LoadedRun
from stainda.run_directory.result_tables import EARLIER_ROTATIONS
from stainda.run_directory.tables import SLIDES

Rows = list[dict[str, str]]


def excluded_trainings(run: LoadedRun) -> Rows:
    """Rows of exclusions.csv, those of one strategy with one reason together, and folders that no table names."""
    rows: Rows = []
    table = run.exclusions
    keys = [name for name in ("rotation", "strategy", "state", "why") if name in table]
    for key, group in table.groupby(keys, sort=False) if len(table) else []:
        about = dict(zip(keys, key, strict=True))
        title = run.label(about["strategy"]) if about["strategy"] else "unknown strategy"
        where = in_rotation(about.get("rotation"))
        rows.append(
            {
                "stage": "training", "what": f"{where}{title}, {_trainings(group)}", "status": "not reported",
                "reason": about["why"] + (f" ({about['state']})" if about["state"] not in ("", "complete") else ""),
            }
        )  # fmt: skip
    for row in run.tables[EARLIER_ROTATIONS.path].to_dict("records"):
        reason = "the study rotated in an earlier call, and no longer does; its folder below rotations/ is kept"
        rows.append({"stage": "rotation", "what": row["rotation"], "status": "not reported", "reason": reason})
    for job in run.unreported:
        status, reason = "not reported", "no row of trials.csv names it; 'stainda run' sorts it in, or says why not"
        if not job.done:
            status, reason = "unfinished", "interrupted: it was neither finished nor scored"
        if job.error:
            status, reason = "failed", job.error
        what = f"{in_rotation(job.rotation)}job {job.name}"
        rows.append({"stage": "training", "what": what, "status": status, "reason": reason})
    return rows


def left_out_slides(run: LoadedRun) -> Rows:
    """Slides that could not be read."""
    table = run.tables[SLIDES.path]
    return [
        {
            "stage": "cohort", "what": f"slide {row['slide']} (row {row['row']} of the manifest)",
            "status": "left out", "reason": row["reason"],
        }
        for row in (table[table["state"].eq("left out")].to_dict("records") if len(table) else [])
    ]  # fmt: skip


def pruned_trials(run: LoadedRun) -> Rows:
    """Trials that were ended early: they have no records."""
    trials = run.trials
    rows: Rows = []
    for row in trials[trials["state"].eq("pruned")].to_dict("records") if len(trials) else []:
        step = row.get("stopped_step")
        after = f"after step {int(float(step))} " if step not in (None, "") and not pd.isna(step) else ""
        where = in_rotation(row.get("rotation"))
        rows.append(
            {
                "stage": "training",
                "what": f"{where}{run.label(row['strategy'])}, trial {row['trial']}, seed {row['seed']}",
                "status": "pruned",
                "reason": f"ended {after}by the {run.study.search.pruner} pruner, behind earlier trials: not scored",
            }
        )
    return rows


def excluded_strategies(run: LoadedRun) -> dict[str, str]:
    """Strategies of which nothing is reported though trainings of them lie here, and the reasons."""
    table, reasons = run.exclusions, {}
    known = {strategy.name for strategy in run.study.strategies} | set(run.trials["strategy"])
    for name, group in table.groupby("strategy", sort=False) if len(table) else []:
        if name and name not in known:
            reasons[str(name)] = "; ".join(dict.fromkeys(group["why"]))
    return reasons


def in_rotation(name: str | None) -> str:
    """The name of the rotation that something is of, before what is said of it; nothing where there is none."""
    return f"{name}: " if name else ""


def _trainings(group: pd.DataFrame) -> str:
    jobs = list(dict.fromkeys(group["job"]))
    parts = [f"job {jobs[0]}" if len(jobs) == 1 else f"{len(jobs)} trainings"]
    for name in ("trial", "seed"):
        if numbers := _numbers(group[name]):
            parts.append(f"{name}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}")
    return ", ".join(parts)


def _numbers(values: Iterable[object]) -> list[int]:
    return sorted({int(float(str(value))) for value in values if str(value) not in ("", "nan")})
