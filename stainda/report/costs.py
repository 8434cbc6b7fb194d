"""What each strategy cost in training: processor and GPU time, memory at its peak, and energy where it was measured.

How each is measured, and shared among what runs side by side, is said in :mod:`stainda.training.metering`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stainda.report.figure_registry import register_table
from stainda.report.figures import Look
from stainda.report.run import LoadedRun
from stainda.report.study_view import StudyView, make_look
from stainda.report.summary_text import Sentence, listed
from stainda.report.tables import Cell, PageTable, decimal, duration, number, text
from stainda.run_directory.training_tables import PRETRAININGS, REFITS


@dataclass(frozen=True)
class Quantity:
    """A column of the cost table. ``said`` is how it is measured; ``axis`` its title in the figure, none without."""

    title: str
    digits: int
    said: str = ""
    axis: str = ""


TAKEN = {
    "peak_memory_mib": Quantity(
        "Peak memory, MiB", 0,
        "Peak memory: the largest resident set of the process that trains, with its libraries and what it keeps of "
        "slides.", "peak memory, MiB",
    ),
    "peak_gpu_memory_mib": Quantity(
        "Peak GPU memory, MiB", 0, "Peak GPU memory: the most that torch held.", "peak GPU memory, MiB"
    ),
    "cpu_energy_wh": Quantity(
        "Processor energy, Wh", 2,
        "Processor energy: what RAPL counts for the whole packages, idle power included, times the training's share of "
        "all processor seconds of the machine.", "processor energy, Wh",
    ),
    "gpu_energy_wh": Quantity(
        "GPU energy, Wh", 2,
        "GPU energy: what NVML counts for the whole GPU, divided evenly among the processes that compute on it.",
        "GPU energy, Wh",
    ),
}  # fmt: skip
"""Columns of trials.csv in addition to the times; medians over a strategy's trainings."""

ABSENT = {
    "peak_memory_mib": "peak memory", "cpu_energy_wh": "processor energy (RAPL cannot be read)",
    "gpu_energy_wh": "GPU energy (NVML or pynvml is not there)",
}  # fmt: skip
"""What is said of a quantity that has no value in any training."""

OF_RESULTS = {
    "n_parameters": Quantity("Parameters", 0), "n_trained": Quantity("Parameters that learned", 0),
    "steps_per_second": Quantity("Steps per second", 1),
}  # fmt: skip
"""What is read from result.json of the jobs."""


def cost_frame(run: LoadedRun, look: Look) -> pd.DataFrame:
    """One row per strategy: sum and median of processor seconds, and medians of what else was measured.

    Trainings that were made again from all source patients (``protocol.refit``) count as the others do.
    """
    trials = _trainings(run)
    column = "cpu_seconds" if "cpu_seconds" in trials and trials["cpu_seconds"].notna().any() else "seconds"
    columns = [
        "strategy", "jobs", "cpu_seconds", "cpu_seconds_per_job", "against_baseline", "gpu_seconds_per_job",
        "pretraining_cpu_seconds", *OF_RESULTS, *TAKEN,
    ]  # fmt: skip
    if trials.empty or column not in trials:
        return pd.DataFrame(columns=columns)
    times = trials.assign(cpu_seconds=pd.to_numeric(trials[column], errors="coerce"))
    times = times[np.isfinite(times["cpu_seconds"])].groupby("strategy")["cpu_seconds"]
    frame = pd.DataFrame({"jobs": times.size(), "cpu_seconds": times.sum(), "cpu_seconds_per_job": times.median()})
    base = frame["cpu_seconds_per_job"].get(run.study.baseline, np.nan)
    frame["pretraining_cpu_seconds"] = frame.index.map(_pretraining(run)).astype(float)
    frame["against_baseline"] = frame["cpu_seconds_per_job"] / base if base else np.nan
    frame = frame.join(_medians(run, trials))
    return frame.reindex(look.present(list(frame.index))).rename_axis("strategy").reset_index()[columns]


def _trainings(run: LoadedRun) -> pd.DataFrame:
    """Rows of trials.csv and of refits.csv."""
    refits = run.tables.get(REFITS.path)
    if refits is None or refits.empty:
        return run.trials
    return pd.concat([run.trials, refits], ignore_index=True)


def _medians(run: LoadedRun, trials: pd.DataFrame) -> pd.DataFrame:
    results_by_job = pd.DataFrame([run.jobs[job].result if job in run.jobs else {} for job in trials["job"]])
    names = [*OF_RESULTS, "device", "seconds"]
    results = results_by_job.reindex(columns=names).set_axis(trials.index)
    numbers = results[list(OF_RESULTS)].join(trials.reindex(columns=list(TAKEN)))
    on_gpu = results["device"].astype(str).str.startswith("cuda")
    numbers = numbers.assign(gpu_seconds_per_job=results["seconds"].where(on_gpu))
    return numbers.apply(pd.to_numeric, errors="coerce").groupby(trials["strategy"]).median()


def _pretraining(run: LoadedRun) -> dict[str, float]:
    """Processor seconds of the training without labels that each strategy starts from, mean over its seeds."""
    seconds_by_name: dict[str, list[float]] = {}
    table = run.tables.get(PRETRAININGS.path)
    for row in table.to_dict("records") if table is not None else []:
        for name in str(row["strategies"]).split(";"):
            seconds_by_name.setdefault(name, []).append(float(row["cpu_seconds"]))
    return {name: float(np.mean(seconds)) for name, seconds in seconds_by_name.items()}


@register_table("cost")
def cost_table(run: LoadedRun) -> PageTable | None:
    """The table of the page, with the columns that were measured; its note says how, and what was not."""
    frame = cost_frame(run, make_look(run))
    if frame.empty:
        return None
    measured = {name: result for name, result in (OF_RESULTS | TAKEN).items() if frame[name].notna().any()}
    on_gpu = bool(frame["gpu_seconds_per_job"].notna().any())
    pretrained = bool(frame["pretraining_cpu_seconds"].notna().any())
    shown = [
        [
            text(run.label(row["strategy"])),
            number(row["jobs"], 0),
            Cell(duration(row["cpu_seconds"]), sort=row["cpu_seconds"], number=True),
            Cell(duration(row["cpu_seconds_per_job"]), sort=row["cpu_seconds_per_job"], number=True),
            Cell(
                decimal(row["against_baseline"], 1) + " ×" if np.isfinite(row["against_baseline"]) else "", number=True
            ),
            *([_time(row["pretraining_cpu_seconds"])] if pretrained else []),
            *([_time(row["gpu_seconds_per_job"])] if on_gpu else []),
            *[number(row[name], cost.digits) for name, cost in measured.items()],
        ]
        for row in frame.to_dict("records")
    ]
    columns = [
        "Strategy", "Jobs", "Processor time, all", "Processor time, one training", "Against baseline",
        *(["Before it, without labels"] if pretrained else []),
        *(["GPU time, one training"] if on_gpu else []), *[cost.title for cost in measured.values()],
    ]  # fmt: skip
    remarks = [cost.said for cost in measured.values() if cost.said]
    if pretrained:
        remarks = [
            "Without labels: of the training that a strategy starts from, which several strategies share.",
            *remarks,
        ]
    if on_gpu:
        remarks = ["GPU time: wall clock of trainings on a GPU, also where several share it.", *remarks]
    note = " ".join(
        ["All but the sums are medians over a strategy's trainings.", *remarks, *_lacking(run, measured, on_gpu)]
    )
    return PageTable("cost", "What each strategy cost in training.", columns, shown, frame, note)


def _time(seconds: float) -> Cell:
    return Cell(duration(seconds), sort=seconds, number=True) if np.isfinite(seconds) else Cell("", number=True)


def _lacking(run: LoadedRun, measured: dict[str, Quantity], on_gpu: bool) -> list[str]:
    """What no training has a value of: the machine does not show it, or the version of stainda did not ask."""
    wanted = {name: words for name, words in ABSENT.items() if on_gpu or name != "gpu_energy_wh"}
    absent = [words for name, words in wanted.items() if name not in measured]
    if not absent:
        return []
    if not set(TAKEN) & set(run.trials.columns):
        names = ", ".join(words.partition(" (")[0] for words in wanted.values())
        return [f"Not recorded by the version of stainda that trained: {names}."]
    return [f"Not measured on this machine: {', '.join(absent)}."]


def drawn_quantities(frame: pd.DataFrame) -> dict[str, str]:
    """Columns of the figure with their axis titles: processor minutes, and whatever else was measured."""
    drawn = {"cpu_minutes": "processor time, minutes", "gpu_minutes": "GPU time, minutes"}
    drawn |= {name: cost.axis for name, cost in TAKEN.items()}
    return {name: title for name, title in drawn.items() if frame[name].notna().any()}


def cost_sentence(view: StudyView) -> list[Sentence]:
    """What the best contender costs in training, against the baseline; nothing where no time was recorded."""
    best = view.best()
    frame = cost_frame(view.run, view.look).set_index("strategy")
    if best is None or best not in frame.index or not np.isfinite(frame.loc[best, "cpu_seconds_per_job"]):
        return []
    row = frame.loc[best]
    taking = f"One training of {view.run.label(best)} took {duration(row['cpu_seconds_per_job'])} of processor time"
    if best != view.look.baseline and np.isfinite(row["against_baseline"]):
        taking += f", {decimal(row['against_baseline'], 1)} times that of {view.run.label(view.look.baseline)}"
    memory = {"memory": row["peak_memory_mib"], "GPU memory": row["peak_gpu_memory_mib"]}
    energy = {"of the processor": row["cpu_energy_wh"], "of the GPU": row["gpu_energy_wh"]}
    taken = [
        f"{decimal(value / 1024, 1)} GiB of {kind} at most" for kind, value in memory.items() if np.isfinite(value)
    ]
    taken += [f"{decimal(value, 2)} Wh {kind}" for kind, value in energy.items() if np.isfinite(value)]
    return [Sentence(f"{taking}{'; ' * bool(taken)}{listed(taken)}.")]
