"""`source_only` next to a plain script of another hand: same manifest, patch size, scale, batch size and steps.

    python benchmarks/beside_plain_unet.py --plain ../shared/reference/plain_unet.py \\
        --monuseg ../shared/data/nuclei_monuseg_test14 --out runs/beside_plain

The script is given by ``--plain`` (a U-Net of four levels, random crops, one-cycle AdamW, BCE + Dice, threshold 0.5, no
selection). It learns from the patients of train and val; `source_only` from those of train, and chooses by those of
val. So the script stands there twice: as it is, and without the patients of val (then the same patients teach both).

Cohorts: a synthetic one (``phantom``: PAS at centre A teaches, three stains at two centres are tested), another one
without a gap of domains (``own``: PAS at centre A teaches and is tested, on four patients), and, where ``--monuseg``
says where its images are, MoNuSeg (8 hospitals teach, 6 are tested). Prints Dice (pixels at level 0,
pooled over the slides of a domain, then the mean over domains) and seconds per step; OUT/beside_plain.csv has a row per
domain and seed. What was trained already is used again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stainda.config import PhantomConfig
from stainda.files import write_csv
from stainda.study import run_study

STEPS_PER_EPOCH = 30
PLAIN, SAME = "plain script", "plain script, same patients"
TESTED = (
    "69",
    "A6",
    "EJ",
    "FG",
    "GL",
    "ZF",
)  # MoNuSeg: every second hospital or so, chosen before anything was trained
VALIDATED = ("AC", "HT")


@dataclass(frozen=True)
class Cohort:
    """A manifest for both, and what each has to know of it: ``scale`` is stored pixels per level-0 pixel."""

    name: str
    manifest: Path
    sources: tuple[str, ...]
    task: str
    mpp: float
    scale: float


def phantom(folder: Path) -> Cohort:
    """Eight patients; of the training patients only their PAS sections at centre A are in the manifest."""
    from stainda.phantom import make_cohort

    config = PhantomConfig(patients=8, stains=("PAS", "JONES", "SR"), centres=("A", "B"), size=1536, mpp=0.75, seed=3)
    made = pd.read_csv(make_cohort(config, folder / "phantom"), dtype=str, keep_default_na=False)
    patients = made.drop_duplicates("patient").set_index("patient")["centre"]
    of_a = [patient for patient, centre in patients.items() if centre == "A"]
    split = {**dict.fromkeys(patients.index, "test"), of_a[0]: "train", of_a[1]: "train", of_a[2]: "val"}
    made["split"] = made["patient"].map(split)
    kept = made[(made["split"] == "test") | (made["stain"] == "PAS")].assign(landmarks="")
    kept.to_csv(folder / "phantom" / "beside.csv", index=False)
    return Cohort("phantom", folder / "phantom" / "beside.csv", ("PAS@A",), "glomeruli_segmentation", 4.0, 0.75 / 4.0)


def own(folder: Path, seed: int) -> Cohort:
    """Eight patients of centre A in PAS: three teach, the fourth validates, four are tested; and one of centre B, so
    that there is a target."""
    from stainda.phantom import make_cohort

    config = PhantomConfig(patients=16, stains=("PAS",), centres=("A", "B"), size=1536, mpp=0.75, seed=seed)
    made = pd.read_csv(make_cohort(config, folder / "own"), dtype=str, keep_default_na=False)
    of_a, of_b = (made[made["centre"] == centre]["patient"].unique().tolist() for centre in "AB")
    split = {**dict.fromkeys(of_a[:3], "train"), of_a[3]: "val", **dict.fromkeys([*of_a[4:], of_b[0]], "test")}
    made["split"] = made["patient"].map(split)
    made.dropna(subset="split").assign(landmarks="").to_csv(folder / "own" / "beside.csv", index=False)
    return Cohort("own", folder / "own" / "beside.csv", ("PAS@A",), "glomeruli_segmentation", 4.0, 0.75 / 4.0)


def monuseg(images: Path, folder: Path) -> Cohort:
    """One image of each of 14 hospitals."""
    from stainda.datasets import make_public_manifest

    path = make_public_manifest("monuseg", images, folder / "monuseg").manifest
    made = pd.read_csv(path, dtype=str, keep_default_na=False)
    roles = {**dict.fromkeys(VALIDATED, "val"), **dict.fromkeys(TESTED, "test")}
    made["split"] = made["centre"].map(lambda centre: roles.get(centre, "train"))
    made.to_csv(path.with_name("beside.csv"), index=False)
    sources = tuple(f"HE@{centre}" for centre in made["centre"] if centre not in TESTED)
    return Cohort("monuseg", path.with_name("beside.csv"), sources, "nuclei_segmentation", 0.5, 0.5)


def run_plain(cohort: Cohort, options: argparse.Namespace, name: str) -> list[dict]:
    """Rows of the other script, by seed and domain; patients of val teach, but for ``SAME``."""
    manifest, stem = cohort.manifest, f"{cohort.name}_plain"
    if name == SAME:
        manifest, stem = manifest.with_name("beside_train.csv"), f"{stem}_train"
        rows = pd.read_csv(cohort.manifest, dtype=str, keep_default_na=False)
        rows[rows["split"] != "val"].to_csv(manifest, index=False)
    out, log = options.out / f"{stem}.jsonl", options.out / f"{stem}.log"
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    seeds = [seed for seed in range(options.seeds) if seed not in {line["seed"] for line in done}]
    if seeds:
        command = [sys.executable, options.plain.name, manifest.resolve(), "--out", out.resolve()]
        command += ["--variants", "plain", "--seeds", *seeds, "--scale", cohort.scale, "--patch", options.patch]
        command += ["--batch", options.batch, "--steps", options.steps]
        with log.open("a") as stream:
            subprocess.run(
                [str(word) for word in command], cwd=options.plain.parent, stdout=stream, check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        done = [json.loads(line) for line in out.read_text().splitlines()]
    rows_of_all = []
    log_lines = log.read_text().splitlines()
    for line in done:
        steps = [words.split() for words in log_lines if f" seed {line['seed']} step " in words]  # every 50 steps
        seconds = float(steps[-1][-2]) / float(steps[-1][4]) if steps else float("nan")
        for domain, scores in line["result"].items():
            rows_of_all.append(_row(cohort, name, line["seed"], domain.replace("_", "@"), scores["dice"], seconds))
    return rows_of_all


def run_ours(cohort: Cohort, options: argparse.Namespace, name: str, changes: list[str]) -> list[dict]:
    """Rows of `source_only`, by seed and domain."""
    study = {
        "study": "beside",
        "manifest": str(cohort.manifest.resolve()),
        "registration": {"method": "identity"},
        "task": cohort.task,
        "model": {
            "name": "unet",
            "params": {"depth": 4, "width": 16, "norm": "batch", "upsampling": "interpolated", "init": "pytorch"},
        },
        "patches": {"mpp": cohort.mpp, "size": options.patch},
        "protocol": {"sources": list(cohort.sources), "visible": "nothing", "seeds": options.seeds},
        "search": {"trials": 1},
        "training": {
            "epochs": max(1, options.steps // STEPS_PER_EPOCH), "steps_per_epoch": STEPS_PER_EPOCH,
            "batch_size": options.batch,
        },
        "strategies": ["source_only"],
        "ceiling": "source_only",
        "workers": 1,
    }  # fmt: skip
    file = options.out / f"{cohort.name}.yaml"
    file.write_text(json.dumps(study), encoding="utf-8")  # JSON is YAML
    run = run_study(file, options.out / f"{cohort.name}_{name}", overrides=changes, until="evaluate")
    records = pd.read_parquet(run / "records.parquet")
    chosen = records[(records["measure"] == "dice") & (records["split"] == "test")]
    rows = []
    for checkpoint, what in ((options.checkpoint, name), ("refit", f"{name}, refitted")):
        those = chosen[chosen["checkpoint"] == checkpoint]
        for (job, seed, domain), some in those.groupby(["job", "seed", "domain"]):
            result = json.loads((run / "jobs" / str(job) / "result.json").read_text())
            tp, fp, fn = some[["tp", "fp", "fn"]].sum()
            dice = 2 * tp / max(2 * tp + fp + fn, 1)
            rows.append(_row(cohort, what, int(seed), str(domain), dice, 1 / result["steps_per_second"]))
    return rows


def _row(cohort: Cohort, what: str, seed: int, domain: str, dice: float, seconds: float) -> dict:
    return {
        "cohort": cohort.name, "what": what, "seed": seed, "domain": domain, "dice": round(float(dice), 4),
        "seconds_per_step": round(seconds, 4),
    }  # fmt: skip


def summarise(rows: list[dict]) -> str:
    """A line per cohort and competitor; differences are from the script that the same patients taught."""
    lines = [f"{'cohort':10}{'what':28}{'Dice':>8}{'sd of seeds':>13}{'difference':>12}{'s per step':>12}  by domain"]
    table = pd.DataFrame(rows)
    for cohort, some in table.groupby("cohort", sort=False):
        plain = some[some["what"] == SAME].groupby("seed")["dice"].mean()
        for what, mine in some.groupby("what", sort=False):
            by_seed = mine.groupby("seed")["dice"].mean()
            spread = by_seed.std(ddof=1) if len(by_seed) > 1 else np.nan
            by_domain = ", ".join(f"{name} {dice:.3f}" for name, dice in mine.groupby("domain")["dice"].mean().items())
            lines.append(
                f"{cohort:10}{what:28}{by_seed.mean():8.3f}{spread:13.3f}{by_seed.mean() - plain.mean():+12.3f}"
                f"{mine['seconds_per_step'].mean():12.3f}  {by_domain}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", type=Path, required=True, help="plain_unet.py, with common.py next to it")
    parser.add_argument("--monuseg", type=Path, help="folder of MoNuSeg's test images; without it the phantom alone")
    parser.add_argument("--out", type=Path, default=Path("runs/beside_plain"))
    parser.add_argument("--cohorts", nargs="*", default=["phantom", "own", "monuseg"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--patch", type=int, default=96, help="pixels at the working scale")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=77, help="of the synthetic cohort own; another --out for each")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    parser.add_argument("--weights", type=Path, help="safetensors of tf_efficientnet_lite0: a row with this encoder")
    parser.add_argument("--name", default="source_only", help="of the row, for runs with overrides")
    parser.add_argument("overrides", nargs="*", help="changes to the study, KEY=VALUE")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    makers = {
        "phantom": lambda: phantom(options.out),
        "own": lambda: own(options.out, options.seed),
        "monuseg": lambda: monuseg(options.monuseg, options.out),
    }
    rows: list[dict] = []
    for name in options.cohorts:
        if name == "monuseg" and options.monuseg is None:
            continue
        cohort = makers[name]()
        for competitor in (PLAIN, SAME):
            rows += run_plain(cohort, options, competitor)
        rows += run_ours(cohort, options, options.name, options.overrides)
        if options.weights is not None:
            encoder = "model={name: smp, params: {decoder: unet, encoder: tu-tf_efficientnet_lite0}, weights: %s}"
            rows += run_ours(cohort, options, "pretrained", [encoder % options.weights.resolve(), *options.overrides])
        print(summarise(rows), flush=True)
    write_csv(options.out / "beside_plain.csv", rows, list(rows[0]))


if __name__ == "__main__":
    main()
