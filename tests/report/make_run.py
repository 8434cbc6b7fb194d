"""A small, made-up run directory with every file that a study leaves: what the report is developed and tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image, ImageDraw

from stainda.config import StudyConfig
from stainda.evaluation import (
    MEASURES,
    OBJECT_COLUMNS,
    PROBABILITY_COLUMNS,
    THRESHOLD_COLUMNS,
    as_records,
    write_evidence,
    write_records,
)
from stainda.evaluation.curves import CALIBRATION_BINS
from stainda.evaluation.metrics import OBJECT_MEASURES, PIXEL_MEASURES
from stainda.files import write_json
from stainda.registration.results import BLOCK_FORMAT
from stainda.registration.transforms import Transform
from stainda.run_directory.contents import BLOCK, DONE, ERROR, RESULT, SETTINGS, STUDY
from stainda.run_directory.contents import ENVIRONMENT as ENVIRONMENT_FILE
from stainda.run_directory.declaration import Table
from stainda.run_directory.result_tables import (
    ALIGNMENT_EFFECTS,
    DOMAIN_GAP,
    OBJECTS,
    PROBABILITIES,
    RECORDS,
    UNSUPERVISED,
)
from stainda.run_directory.tables import (
    AGREEMENT,
    ANNOTATOR_AGREEMENT,
    ANNOTATORS,
    APPLIED,
    COHORT,
    FIELDS,
    GALLERY,
    GALLERY_LEFT_OUT,
    LANDMARKS,
    PROPAGATION,
    QUALITY,
)
from stainda.run_directory.training_tables import STAGE_SECONDS, TRAINING, TRIALS

SIZE = 640  # of a made-up section, level-0 pixels
COLOURS = {"PAS": (196, 110, 170), "JONES": (150, 140, 150), "SR": (205, 90, 80), "CD68": (170, 150, 120)}
TITLES = {
    "source_only": "Source only", "hed_augmentation": "HED augmentation", "macenko": "Macenko normalisation",
    "dann": "DANN", "propagated_labels": "Propagated labels", "oracle": "Oracle (target labels)",
}  # fmt: skip
LABELS = {"few_shot": {"name": "few_shot", "k": 8}, "propagated_labels": "propagated", "oracle": "all"}
GAIN = {
    "source_only": 0.0, "hed_augmentation": 0.45, "macenko": -0.1, "dann": 0.3, "propagated_labels": 0.8, "oracle": 1.0,
    "few_shot": 0.9,
}  # fmt: skip


def make_run(
    folder: Path,
    *,
    test_patients: int = 6,
    stains: Sequence[str] = ("PAS", "JONES", "SR", "CD68"),
    centres: Sequence[str] = ("A", "B"),
    strategies: Sequence[str] = tuple(TITLES),
    registration: bool = True,
    failed_job: bool = True,
    seeds: int = 2,
    trials: int = 2,
    evidence: bool = True,
    costs: bool = False,
) -> Path:
    """Write the run directory and return it. ``test_patients`` counts those of all centres together.

    ``costs``: memory and energy of the processor were measured.
    """
    rng = np.random.default_rng(4)
    config = _study(stains, centres, strategies, seeds, trials)
    folder.mkdir(parents=True, exist_ok=True)
    STUDY.at(folder).write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    write_json(ENVIRONMENT_FILE.at(folder), ENVIRONMENT)
    cohort = _cohort(stains, centres, test_patients)
    write(COHORT, folder, cohort)
    for row in cohort:
        _draw_section(folder, row, rng)
    write(FIELDS, folder, [{"slide": row["slide"], **FIELD_OF_VIEW} for row in cohort])
    if registration:
        _registration(folder, cohort, rng)
    jobs = _jobs(folder, config, cohort, rng, failed_job)
    if evidence:
        _evidence(folder, jobs, cohort)
    if costs:
        jobs = [{**job, **_costs(job["strategy"], job["seed"])} for job in jobs]
    write(TRIALS, folder, jobs)
    stages = [{"stage": name, "seconds": s} for name, s in STAGES.items() if registration or name != "registration"]
    write(STAGE_SECONDS, folder, stages)
    return folder


def write(table: Table, root: Path, rows: Sequence[Mapping[str, object]], **names: str) -> None:
    """Write a table of a run directory as it is declared: a column that is not declared is refused."""
    frame = table.complete(pd.DataFrame([*rows], dtype=object))
    table.write_frame(table.at(root, **names).parent, frame)


ENVIRONMENT = {
    "stainda": "0.1.0", "python": "3.11.7", "platform": "Linux x86_64", "cpu": "2 cores", "gpu": None,
    "commit": "0123abc", "seed": 1, "packages": {"torch": "2.4.1", "numpy": "1.26.4", "valis-wsi": "1.2.0"},
}  # fmt: skip
FIELD_OF_VIEW = {"x": 60, "y": 60, "width": 320, "height": 320, "downsample": 1.5}
STAGES = {
    "cohort": 41.2,
    "registration": 63.0,
    "propagation": 2.1,
    "patches": 9.4,
    "training": 310.5,
    "evaluation": 40.1,
}


def _study(stains, centres, strategies, seeds, trials) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": "made_up",
            "title": "A made-up study",
            "question": "Which strategy carries a glomerulus detector from PAS at centre A elsewhere?",
            "phantom": {"patients": 8, "stains": list(stains), "centres": list(centres), "size": SIZE},
            "patches": {"size": 128, "mpp": 2.0},
            "task": {"name": "glomeruli", "classes": ["glomerulus"]},
            "protocol": {"sources": ["PAS@A"], "targets": ["rest"], "seeds": seeds},
            "search": {"trials": trials},
            "evaluation": {"resamples": 400},
            "strategies": [
                {"name": name, "title": TITLES.get(name, ""), "reference": "", "labels": LABELS.get(name, "source")}
                for name in strategies
            ],
        }
    )


def _cohort(stains, centres, test_patients) -> list[dict]:
    rows = []
    splits = [("train", 2), ("val", 1), ("test", test_patients)]
    number = 0
    for split, count in splits:
        for index in range(count):
            number += 1
            centre = centres[index % len(centres)] if split == "test" else centres[0]
            for section, stain in enumerate(stains, start=1):
                domain = f"{stain}@{centre}"
                rows.append(
                    {
                        "slide": f"P{number:02d}_{stain}", "patient": f"P{number:02d}", "block": f"P{number:02d}",
                        "section": section, "stain": stain, "centre": centre, "scanner": "", "path": "", "mpp": 0.5,
                        "annotations": "", "landmarks": "", "annotation_origin": "auto", "n_shapes": "",
                        "split": split, "domain": domain, "width": SIZE,
                        "height": SIZE, "role": "source" if domain == "PAS@A" else "target",
                    }
                )  # fmt: skip
    return rows


def _centres(row: dict) -> list[tuple[float, float, float]]:
    rng = np.random.default_rng(sum(map(ord, row["patient"])))
    x, y = np.meshgrid([120, 270, 420, 540], [110, 280, 450, 560])
    xy = np.stack([x.ravel(), y.ravel()], 1) + rng.uniform(-20, 20, (16, 2))
    return [(cx, cy, r) for (cx, cy), r in zip(xy, rng.uniform(25, 45, 16), strict=True)][:12]


def _disc(cx, cy, r, n=40):
    angle = np.linspace(0, 2 * np.pi, n + 1)
    return np.stack([cx + r * np.cos(angle), cy + r * np.sin(angle)], 1).round(1).tolist()


def _geojson(path: Path, discs, **properties) -> None:
    features = [
        {
            "type": "Feature", "id": f"g{i}", "geometry": {"type": "Polygon", "coordinates": [_disc(*disc)]},
            "properties": {"objectType": "annotation", "classification": {"name": "glomerulus"}, **properties},
        }
        for i, disc in enumerate(discs)
    ]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _draw_section(folder: Path, row: dict, rng) -> None:
    colour = np.array(COLOURS.get(row["stain"], (180, 120, 160)))
    if row["centre"] != "A":
        colour = np.clip(colour * [0.95, 1.05, 1.1], 0, 255)
    image = Image.new("RGB", (SIZE, SIZE), (245, 243, 245))
    pen = ImageDraw.Draw(image)
    pen.ellipse((20, 20, SIZE - 20, SIZE - 20), fill=tuple(int(v) for v in (colour + 245) / 2))
    for cx, cy, r in _centres(row):
        pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=tuple(int(v) for v in colour))
    noise = rng.normal(0, 8, (SIZE, SIZE, 1))
    image = Image.fromarray(np.clip(np.asarray(image, float) + noise, 0, 255).astype(np.uint8))
    for name, size in (("thumbnails", 256), ("fields", 320)):
        (folder / name).mkdir(exist_ok=True)
        part = image if name == "thumbnails" else image.crop((60, 60, 60 + 480, 60 + 480))
        part.resize((size, size)).save(folder / name / f"{row['slide']}.jpg", quality=80)
    _geojson(folder / "annotations" / "own" / f"{row['slide']}.geojson", _centres(row))


def _registration(folder: Path, cohort, rng) -> None:
    rows, propagated, agreement = [], [], []
    blocks = {row["block"]: [section for section in cohort if section["block"] == row["block"]] for row in cohort}
    for number, (block, sections) in enumerate(blocks.items()):
        reference = sections[0]
        for section in sections[1:]:
            source, target = section["slide"], reference["slide"]
            refused = number == 1 and section["stain"] == sections[-1]["stain"]
            before, rigid = rng.uniform(60, 200), rng.uniform(4, 8)
            fine = {} if refused else {
                "tre_before_px": before, "tre_rigid_px": rigid, "tre_nonrigid_px": rigid / 2, "tre_p90_px": rigid,
                "tre_before_um": before / 2, "tre_rigid_um": rigid / 2, "tre_nonrigid_um": rigid / 4,
                "tissue_overlap": rng.uniform(0.93, 0.99), "folds": 0.0, "n_matches": int(rng.integers(40, 300)),
            }  # fmt: skip
            overlay = f"registration/overlays/{block}__{source}__{target}.jpg"
            rows.append(
                {
                    "block": block, "source": source, "target": target, "seconds": 12.5,
                    "status": "refused" if refused else "registered", "overlay": overlay,
                    "reason": "only 6 matches, 15 are needed" if refused else "", **fine,
                }
            )  # fmt: skip
            (folder / "registration" / "overlays").mkdir(parents=True, exist_ok=True)
            grey = rng.integers(120, 250, (90, 280, 3)).astype(np.uint8)
            Image.fromarray(grey).save(folder / overlay)
            for index in range(len(_centres(section))):
                kept = not refused and index % 5 != 4
                reason = "" if kept else "not registered" if refused else "less than 0.5 of its area on tissue"
                propagated.append(
                    {
                        "id": f"g{index}", "class": "glomerulus", "source": target, "target": source,
                        "status": "kept" if kept else "dropped", "reason": reason,
                        "area_ratio": rng.uniform(0.9, 1.1), "confidence": rng.uniform(0.6, 1),
                    }
                )  # fmt: skip
                if kept:
                    agreement.append(
                        {
                            "target": source, "class": "glomerulus", "id": f"g{index}", "dice": rng.uniform(0.75, 0.97),
                            "centroid_distance_px": rng.uniform(1, 9),
                        }
                    )  # fmt: skip
            if not refused:
                discs = [(x + 3, y - 2, r) for x, y, r in _centres(section)]
                _geojson(folder / "annotations" / "propagated" / f"{source}.geojson", discs)
    write(QUALITY, folder, rows)
    write(PROPAGATION, folder, propagated)
    write(AGREEMENT, folder, agreement)


def _jobs(folder: Path, config: StudyConfig, cohort, rng, failed_job) -> list[dict]:
    rows, records = [], []
    for strategy in config.strategies:
        runs = [(trial, 0, trial == 0) for trial in range(config.search.trials)]
        runs += [(0, seed, True) for seed in range(1, config.protocol.seeds)]
        for trial, seed, chosen in runs:
            job = f"{strategy.name[:6]}{trial}{seed}".ljust(12, "0")
            place = folder / "jobs" / job
            fails = failed_job and strategy.name == "macenko" and trial == 1
            write_json(SETTINGS.inside(place), {"strategy": strategy.name, "trial": trial, "seed": seed})
            base = {
                "strategy": strategy.name, "trial": trial, "seed": seed, "job": job, "state": "complete",
                "value": round(0.88 - 0.02 * trial + rng.uniform(-0.01, 0.01), 4), "chosen": chosen,
                "params": json.dumps(_params(strategy.name, trial)),
                "seconds": 24.0 + 9 * (strategy.name == "dann"), "cpu_seconds": 23.0 + 9 * (strategy.name == "dann"),
                "reason": "",
            }  # fmt: skip
            if fails:
                reason = "the loss is not a number at step 12 (loss_task)"
                ERROR.inside(place).write_text(f"TrainingError: {reason}\n")
                rows.append({**base, "state": "failed", "value": "", "reason": reason, "chosen": False})
                continue
            rows.append(base)
            _curve(place, rng)
            write_json(
                RESULT.inside(place), {"score": base["value"], "best_epoch": 6, "cpu_seconds": base["cpu_seconds"]}
            )
            mine = _records(strategy.name, trial, seed, job, cohort, rng)
            write_records(as_records(pd.DataFrame(mine)), RECORDS.inside(place))
            records += mine
            DONE.inside(place).write_text("")
            for row in cohort:
                if row["split"] == "test" and chosen:
                    level = _level(strategy.name, row)
                    discs = [(x + 4, y + 2, r) for x, y, r in _centres(row)][: max(2, round(12 * level))]
                    discs += [(90, 570, 26)] * (level < 0.7)
                    _geojson(place / "predictions" / f"{row['slide']}.geojson", discs)
    write_records(as_records(pd.DataFrame(records)), RECORDS.at(folder))
    return rows


def _level(strategy: str, row: dict) -> float:
    low = {"PAS": 0.82, "JONES": 0.55, "SR": 0.45, "CD68": 0.3}.get(row["stain"], 0.4)
    if row["role"] == "source":
        return 0.9
    return low + GAIN.get(strategy, 0.5) * (0.88 - low)


def _records(strategy: str, trial: int, seed: int, job: str, cohort, rng) -> list[dict]:
    out = []
    for row in cohort:
        if row["split"] == "train" or (row["split"] == "val" and row["role"] != "source"):
            continue
        patient = (sum(map(ord, row["patient"])) % 7 - 3) * 0.015
        for checkpoint, loss in (("best", 0.0), ("last", 0.015)):
            level = float(np.clip(_level(strategy, row) + patient - loss - 0.02 * trial + rng.normal(0, 0.012), 0, 1))
            pixel = (round(20_000 * level), round(20_000 * (1 - level)), round(20_000 * (1 - level)))
            hits = round(12 * level)
            free = {"hausdorff_95": 40 * (1 - level), "auroc": 0.5 + 0.5 * level, "ece": 0.2 * (1 - level)}
            for names, counts in (
                (PIXEL_MEASURES, pixel),
                (OBJECT_MEASURES, (hits, round(3 * (1 - level)), 12 - hits)),
                (tuple(free), (np.nan, np.nan, np.nan)),
            ):
                for name in names:
                    value = free[name] if name in free else float(MEASURES[name].formula(*counts))
                    out.append(
                        {
                            "study": "made_up", "strategy": strategy, "trial": trial, "seed": seed,
                            "checkpoint": checkpoint, "job": job, "stain": row["stain"], "centre": row["centre"],
                            "domain": row["domain"], "patient": row["patient"], "slide": row["slide"],
                            "split": row["split"], "class": "glomerulus", "measure": name,
                            "value": value,
                            "tp": counts[0], "fp": counts[1], "fn": counts[2],
                        }
                    )  # fmt: skip
    return out


def _curve(place: Path, rng) -> None:
    epochs = np.arange(1, 9)
    rows = [
        {
            "epoch": int(e), "step": int(20 * e), "seconds": round(2.9 * e, 1),
            "loss_task": round(float(0.9 * np.exp(-e / 4) + 0.1 + rng.normal(0, 0.01)), 4),
            "val_dice": round(float(0.9 - 0.6 * np.exp(-e / 2) + rng.normal(0, 0.01)), 4),
        }
        for e in epochs
    ]  # fmt: skip
    write(TRAINING, place.parents[1], rows, job=place.name)


def _params(strategy: str, trial: int) -> dict:
    draw = np.random.default_rng([trial, len(strategy)])
    rate = 1e-3 if trial == 0 else float(10 ** draw.uniform(-4, -2))
    params = {"training.learning_rate": rate, "training.loss": ["dice", "focal"][trial % 2]}
    return params | ({"align.params.weight": float(draw.uniform(0.05, 1))} if strategy == "dann" else {})


def _costs(strategy: str, seed: int) -> dict:
    more = strategy == "dann"
    return {
        "peak_memory_mib": 900.0 + 250 * more + seed, "peak_gpu_memory_mib": "", "gpu_energy_wh": "",
        "cpu_energy_wh": 0.2 + 0.1 * more,
    }  # fmt: skip


def review_and_annotators(folder: Path) -> None:
    """Decisions of a review, several annotators and landmark errors, as their stages write them."""
    cohort = pd.read_csv(folder / "cohort.csv")
    slides = list(cohort.loc[cohort["role"] == "target", "slide"])
    made = [("accept", ""), ("nudge", ""), ("reject", ""), ("accept", "the source annotation was changed since")]
    write(
        APPLIED,
        folder,
        [
            {
                "id": f"g{index}", "class": "glomerulus", "block": "P01", "source": "P01_PAS", "target": slide,
                "decision": kind, "reviewer": "Dr A. Name", "time": "2026-01-02T10:00:00+00:00",
                "status": "stale" if reason else "applied", "reason": reason,
            }
            for slide in slides[:3]
            for index, (kind, reason) in enumerate(made)
        ],
    )  # fmt: skip
    names = ("first_reader", "second reader", "Ünal & Co")
    write(
        ANNOTATORS,
        folder,
        [
            {"slide": slide, "class": "glomerulus", "annotator": name, "objects": 11 + index, "area_px": 5e4,
             "sensitivity": 0.9 + 0.02 * index, "specificity": 0.99, "precision": 0.9, "dice": 0.91,
             "object_recall": 0.95, "object_precision": 0.9, "weight": 1.0}
            for slide in slides[:2]
            for index, name in enumerate(names)
        ]
    )  # fmt: skip
    pairs = [(names[0], names[1], 0.88, ""), (names[0], names[2], 0.9, ""), ("all", "all", "", 0.81)]
    write(
        ANNOTATOR_AGREEMENT,
        folder,
        [
            {"slide": slide, "class": "glomerulus", "first": one, "second": two, "dice": dice,
             "cohen_kappa": dice and dice - 0.1, "fleiss_kappa": fleiss, "object_f1": dice and 0.93}
            for slide in slides[:2]
            for one, two, dice, fleiss in pairs
        ]
    )  # fmt: skip
    errors = {"before": 180.0, "rigid": 9.0, "non-rigid": 4.0}
    write(
        LANDMARKS,
        folder,
        [
            {"block": "P01", "source": slide, "target": "P01_PAS", "step": step, "n_landmarks": 14,
             "tre_median_px": error, "tre_mean_px": error, "tre_p90_px": 2 * error, "tre_max_px": 3 * error,
             "tre_median_um": error / 2, "tre_mean_um": error / 2, "tre_p90_um": error, "tre_max_um": 1.5 * error,
             "rtre_median": error / 905, "rtre_mean": error / 905, "rtre_max": error / 300,
             "robustness": "" if step == "before" else 1.0, "reason": ""}
            for slide in slides[:2]
            for step, error in errors.items()
        ]
    )  # fmt: skip


def object_gallery(folder: Path, block: str = "P04", objects: Sequence[str] = ("g11", "g0")) -> None:
    """Objects of a block followed through its sections, all in one frame, as a study leaves them when it is scored.

    A frame of identity maps; the last section of the block is refused. The first objects are failures, worst first,
    the last is the median case.
    """
    cohort = pd.read_csv(folder / "cohort.csv", keep_default_na=False)
    sections, side = cohort[cohort["block"] == block].to_dict("records"), 160.0
    reference, last = sections[0]["slide"], sections[-1]["slide"]
    refused = {last: "only 6 matches, 15 are needed"}
    place = folder / "registration" / block
    for row in sections[:-1]:
        Transform.identity(row["slide"], (SIZE, SIZE), reference, (SIZE, SIZE)).save(place / row["slide"])
    head = {"format": BLOCK_FORMAT, "block": block, "settings": "5e771265", "reference": reference, "rows": []}
    head |= {"placed": [row["slide"] for row in sections[:-1]], "refused": refused}
    write_json(BLOCK.inside(place), head)
    rows = []
    (folder / "object_gallery").mkdir(exist_ok=True)
    for number, name in enumerate(objects, start=1):
        cx, cy, _ = _centres(sections[0])[int(name[1:])]
        for row in sections:
            there = row["slide"] not in refused
            image = f"object_gallery/{number}__{row['slide']}.jpg" if there else ""
            if there:
                Image.new("RGB", (288, 288), COLOURS[row["stain"]]).save(folder / image, quality=80)
            about = {name: row[name] for name in ("slide", "section", "stain", "centre", "domain", "role", "patient")}
            rows.append(
                {
                    **about, "place": number, "kind": "typical" if number == len(objects) else "worst", "of": 36,
                    "trainings": 2, "scored_sections": 2, "missed": 4 if number < len(objects) else 1, "tried": 4,
                    "false_um2": 1200.0 if number < len(objects) else 0.0, "block": block, "object": f"{block}/{name}",
                    "class": "glomerulus", "frame": reference, "registration": head["settings"], "x": cx - side / 2,
                    "y": cy - side / 2, "side": side, "um_per_px": 0.5, "shape": name if there else "",
                    "image": image, "reason": "" if there else f"not registered: {refused[row['slide']]}",
                }
            )  # fmt: skip
    write(GALLERY, folder, rows)
    left_out = [{"block": "P05", "slide": "", "reason": "no two of its sections could be registered"}]
    write(GALLERY_LEFT_OUT, folder, left_out)


def _evidence(folder: Path, jobs: list[dict], cohort: list[dict]) -> None:
    """Objects, pixels by probability, unsupervised scores, distances of domains and landmark errors."""
    rng = np.random.default_rng(8)
    objects, pixels, unsupervised = [], [], []
    for job in jobs:
        if job["state"] != "complete":
            continue
        about = {
            "study": "made_up",
            "checkpoint": "best",
            **{key: job[key] for key in ("strategy", "trial", "seed", "job")},
        }
        for checkpoint in ("best", "last"):
            scores = {name: round(float(rng.normal()), 4) for name in ("entropy", "information", "mmd")}
            place = {key: job[key] for key in ("strategy", "trial", "seed")}
            unsupervised.append({**place, "checkpoint": checkpoint, **scores})
        for row in cohort:
            if row["split"] != "test":
                continue
            here = {**about, **{key: row[key] for key in ("stain", "centre", "domain", "patient", "slide", "split")}}
            here["class"] = "glomerulus"
            level = _level(job["strategy"], row)
            objects.append({**here, "kind": "slide", "area_um2": 4.1e6 + 2e5 * rng.random()})
            for index, (_, _, r) in enumerate(_centres(row)):
                true = np.pi * (r * 4) ** 2
                if index < 12 * level:
                    score, iou = 0.4 + 0.6 * rng.beta(5, 2), rng.uniform(0.5, 0.98)
                    found = {"score": score, "iou": iou, "area_um2": true * rng.normal(1.05, 0.1)}
                    objects.append({**here, "kind": "hit", **found, "true_area_um2": true})
                    objects.append({**here, "kind": "candidate", "score": score, "iou": iou,
                                    "hits": 2 ** (1 + int((iou - 0.5) / 0.05)) - 1})  # fmt: skip
                else:
                    objects.append({**here, "kind": "missed", "true_area_um2": true})
            for _ in range(rng.poisson(4 * (1 - level))):
                score = 0.4 + 0.6 * rng.beta(2, 4)
                objects.append({**here, "kind": "false", "score": score, "area_um2": 9000.0})
                objects.append({**here, "kind": "candidate", "score": score, "hits": 0})
            for index in range(CALIBRATION_BINS):
                middle = (index + 0.5) / CALIBRATION_BINS
                n = int(2000 * (1 - 3.2 * middle * (1 - middle)))
                positive = int(n * np.clip(0.5 + (middle - 0.5) * (0.5 + 0.5 * level) + rng.normal(0, 0.03), 0, 1))
                pixels.append(
                    {
                        **here,
                        "bin": index,
                        "positive": positive,
                        "negative": n - positive,
                        "total": n * middle,
                        "threshold": 0.5,
                        "own": positive,
                        "other": n - positive,
                    }
                )
    write_evidence(pd.DataFrame(objects), OBJECT_COLUMNS, OBJECTS.at(folder))
    write_evidence(pd.DataFrame(pixels), (*PROBABILITY_COLUMNS, *THRESHOLD_COLUMNS), PROBABILITIES.at(folder))
    write(UNSUPERVISED, folder, unsupervised)
    targets = [name for name in dict.fromkeys(row["domain"] for row in cohort) if name != "PAS@A"]
    gaps = [
        {
            "source": "PAS@A", "target": name, "optical_density_distance": round(0.05 + 0.06 * index, 4),
            "lab_distance": round(4.0 + 3 * index, 3), "proxy_a_distance": round(0.4 + 0.2 * index, 4),
            "proxy_a_note": "", "cka": round(0.9 - 0.08 * index, 4), "n_pairs": 40,
        }
        for index, name in enumerate(targets)
    ]  # fmt: skip
    write(DOMAIN_GAP, folder, gaps)
    effects = [
        {
            **{name: job[name] for name in ("strategy", "trial", "seed", "job")}, "jobs": 1, "not_effective": 0,
            "gradient_ratio": 0.12, "largest_ratio": 0.2, "discriminator_accuracy": 0.71, "chance_accuracy": 0.5,
            "discriminator_loss": 0.583, "chance_loss": 0.693147,
            "distance_first": None, "distance_last": None, "reason": "",
        }
        for job in jobs if job["strategy"] == "dann" and job["state"] == "complete"
    ]  # fmt: skip
    write(ALIGNMENT_EFFECTS, folder, effects)


if __name__ == "__main__":
    import sys

    print(make_run(Path(sys.argv[1])))
