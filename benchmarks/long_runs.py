"""What a long run costs its commands: status, the scan of a resume, the next draw, the records, the report.

    python benchmarks/long_runs.py [--jobs 10000] [--trials 1000 10000] [--slides 2000] [--only status draw ...]

Writes made-up run directories (nothing is trained) and prints CPU seconds, next to wall-clock seconds, since
the machine may be shared. ``draw`` is one draw of the next trial by ``tpe`` from so many trials of one strategy: the
first of a process, and the median of ten after it, each with the trial it drew told.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from stainda.config import SearchConfig, SearchRange, StudyConfig
from stainda.evaluation import MEASURES, write_records
from stainda.evaluation.metrics import PIXEL_MEASURES
from stainda.files import write_csv, write_text

SPACE = {
    "training.learning_rate": SearchRange(low=1e-4, high=1e-1, log=True),
    "align.weight": SearchRange(low=0, high=1),
}
DEFAULTS = {"training.learning_rate": 1e-3, "align.weight": 0.1}
STRATEGIES = ("source_only", "adabn", "dann", "greyscale", "oracle")


def make_run(root: Path, jobs: int, slides: int) -> Path:
    """A run directory as ``stainda run`` leaves it before the report, with tiny contents of its files."""
    rng = np.random.default_rng(1)
    per_strategy = jobs // len(STRATEGIES)
    config = StudyConfig.model_validate(
        {
            "study": "long", "phantom": {"centres": ["A", "B"], "stains": ["PAS", "SR"]}, "patches": {"mpp": 2.0},
            "protocol": {"sources": ["PAS@A"], "seeds": 1}, "search": {"trials": per_strategy},
            "strategies": [{"name": name} for name in STRATEGIES], "space": SPACE_OF_STUDY,
        }
    )  # fmt: skip
    write_text(root / "study.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    cohort = pd.DataFrame(
        {
            "slide": f"S{number:04d}", "patient": f"P{number // 4:03d}", "block": f"P{number // 4:03d}",
            "section": number % 4 + 1, "stain": ("PAS", "SR")[number % 2], "centre": "AB"[number // 4 % 2],
            "domain": f"{('PAS', 'SR')[number % 2]}@{'AB'[number // 4 % 2]}",
            "split": ("train", "train", "val", "test")[number // 8 % 4],
            "role": "source" if number % 2 == 0 and number // 4 % 2 == 0 else "target", "mpp": 0.5,
            "path": f"/slides/S{number:04d}.svs", "width": 1000, "height": 1000, "n_shapes": 5,
        }
        for number in range(slides)
    )  # fmt: skip
    cohort.to_csv(root / "cohort.csv", index=False)
    scored = cohort[cohort["split"] == "test"].iloc[:8]
    trials = [
        {
            "strategy": name, "trial": trial, "seed": 1, "job": f"{place * per_strategy + trial:012x}",
            "state": "complete", "value": round(float(rng.uniform(0.4, 0.9)), 6), "chosen": trial == 0,
            "seconds": 60.0, "cpu_seconds": 60.0,
            "params": json.dumps({"training.learning_rate": float(rng.uniform(1e-4, 1e-1)), "align.weight": 0.5}),
            "reason": "",
        }
        for place, name in enumerate(STRATEGIES)
        for trial in range(per_strategy)
    ]  # fmt: skip
    write_csv(root / "trials.csv", trials, list(trials[0]))
    write_csv(
        root / "budget.csv", [{"strategy": name, "jobs": per_strategy} for name in STRATEGIES], ["strategy", "jobs"]
    )
    for trial in trials:
        place = root / "jobs" / trial["job"]
        place.mkdir(parents=True)
        (place / "done").write_text("key")
        (place / "settings.json").write_text(json.dumps({"strategy": trial["strategy"]}))
        (place / "result.json").write_text(json.dumps({"score": trial["value"], "thresholds": {"glomerulus": 0.5}}))
        (place / "training.csv").write_text(f"epoch,step,val_dice\n1,4,{trial['value']}\n")
    write_records(_records(scored, trials, rng), root / "records.parquet")
    return root


SPACE_OF_STUDY = {
    path: {name: value for name, value in values.model_dump().items() if value is not None}
    for path, values in SPACE.items()
}


def _records(scored: pd.DataFrame, trials: list[dict[str, Any]], rng: np.random.Generator) -> pd.DataFrame:
    base = scored[["stain", "centre", "domain", "patient", "slide", "split"]].assign(study="long")
    base["class"] = "glomerulus"
    about = pd.DataFrame(trials)[["strategy", "trial", "seed", "job"]]
    parts = []
    for checkpoint in ("best", "last"):
        tp = np.round(20_000 * rng.uniform(0.2, 0.9, len(base) * len(about)))
        for name in PIXEL_MEASURES:
            rows = pd.concat([base] * len(about), ignore_index=True)
            rows = rows.join(about.loc[about.index.repeat(len(base))].reset_index(drop=True))
            value = MEASURES[name].formula(tp, 20_000 - tp, 20_000 - tp)
            parts.append(
                rows.assign(checkpoint=checkpoint, measure=name, value=value, tp=tp, fp=20_000 - tp, fn=20_000 - tp)
            )
    return pd.concat(parts, ignore_index=True)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall-clock seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def show(what: str, seconds: tuple[float, float], more: str = "") -> None:
    print(f"| {what} | {seconds[0]:.3f} | {seconds[1]:.3f} | {more} |", flush=True)


def draws(root: Path, trials: int, sampler: str) -> None:
    """The next draw of a strategy of so many trials."""
    from stainda.study.search import StrategySearch

    storage = f"sqlite:///{root / f'{sampler}{trials}.db'}"
    config = SearchConfig(trials=trials + 20, sampler=sampler)  # type: ignore[arg-type]
    search = StrategySearch("long/1", SPACE, DEFAULTS, config, 1, storage)
    fill(search, trials)
    show(f"first draw after {trials} trials, {sampler}", timed(lambda: search.suggest(trials)))
    costs = []
    for index in range(trials, trials + 10):
        drawn: dict[str, Any] = {}
        costs.append(timed(lambda index=index, drawn=drawn: drawn.update(search.suggest(index))))  # type: ignore[misc]
        search.tell(index, drawn, 0.5, f"job{index}")
    show(
        f"a later draw after {trials} trials, {sampler}",
        (statistics.median(cpu for cpu, _ in costs), statistics.median(wall for _, wall in costs)),
    )


def fill(search: Any, trials: int) -> None:
    """Trials as they are stored, but in memory: to write each into SQLite takes longer than to draw it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search._stored = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(2)
    distributions = search._distributions
    made = []
    for index in range(trials):
        params = {"training.learning_rate": float(10 ** rng.uniform(-4, -1)), "align.weight": float(rng.uniform())}
        params = DEFAULTS if index == 0 else params
        made.append(
            optuna.trial.create_trial(
                params=params, distributions=distributions, values=[float(1 - abs(params["align.weight"] - 0.6))],
                user_attrs={"index": index, "job": f"job{index}", "params": params, "reason": None},
            )
        )  # fmt: skip
    search._stored.add_trials(made)


def main() -> None:
    every = ("status", "scan", "draw", "gather", "report")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--trials", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--samplers", nargs="*", default=["tpe"])
    parser.add_argument("--slides", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=every, choices=every)
    parser.add_argument("--out", type=Path, help="where the run is made, and kept; default: a temporary folder")
    given = parser.parse_args()
    print("| what | CPU s | wall s | |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="stainda-long-") as name:
        place = given.out or Path(name)
        root = place / "run"
        if set(given.only) - {"draw"} and not (root / "study.yaml").is_file():
            show("(made up)", timed(lambda: make_run(root, given.jobs, given.slides)))
        commands(root, given.only)
        for sampler in given.samplers if "draw" in given.only else ():
            for trials in given.trials:
                draws(place, trials, sampler)
    print(f"load {os.getloadavg()[1]:.1f}")


def commands(root: Path, only: tuple[str, ...]) -> None:
    from stainda.report import make_report
    from stainda.run_directory.folder import RunFolder, read_study
    from stainda.study.earlier import Judge, sort_earlier
    from stainda.study.results import gather_effects, gather_unsupervised
    from stainda.study.status import read_status

    if "status" in only:
        files = sum(len(names) for _, _, names in os.walk(root))
        show("status", timed(lambda: read_status(root)), f"{files} files")
    if "scan" in only:
        config = read_study(root)
        judge = Judge(config, RunFolder(root), lambda *_: None, lambda _: "key")  # type: ignore[arg-type, return-value]
        known = {path.name for path in (root / "jobs").iterdir()}
        show("scan of earlier trainings", timed(lambda: sort_earlier(judge, known)))
    if "gather" in only:
        folder = RunFolder(root)
        show("unsupervised scores and effects", timed(lambda: (gather_unsupervised(folder), gather_effects(folder))))
    if "report" in only:
        page: list[Path] = []
        seconds = timed(lambda: page.append(make_report(root)))
        show("report", seconds, f"{page[0].stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
