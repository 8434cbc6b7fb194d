"""Tables about what went in: slides, registration, propagation, and everything that was left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from stainda.files import load_json
from stainda.names import file_name
from stainda.report.exclusions import excluded_trainings, in_rotation, left_out_slides, pruned_trials
from stainda.report.figure_registry import register_table
from stainda.report.run import OPTIONAL, SPLITS, LoadedRun
from stainda.report.tables import Cell, PageTable, decimal, duration, number, plain_table, text
from stainda.run_directory.result_tables import RECORDS
from stainda.run_directory.tables import ANNOTATOR_AGREEMENT, ANNOTATORS, APPLIED
from stainda.run_directory.training_tables import REFITS

MOST_LISTED_OBJECTS = 40


@register_table("domains", rotations="one")
def domains(run: LoadedRun) -> PageTable:
    """One row per domain: its role, its patients by split, its slides and annotated objects."""
    objects = annotated_objects(run)
    rows: list[dict[str, Any]] = []
    for domain, slides in run.cohort.groupby("domain", sort=False):
        row: dict[str, Any] = {"domain": domain, "role": slides["role"].iloc[0], "slides": len(slides)}
        for split in SPLITS:
            row[f"patients_{split}"] = slides.loc[slides["split"] == split, "patient"].nunique()
        for name in run.study.task.classes:
            row[f"objects_{name}"] = int(sum(objects.get(slide, {}).get(name, 0) for slide in slides["slide"]))
        rows.append(row)
    frame = pd.DataFrame(rows)
    titles = {"domain": "Domain", "role": "Role", "slides": "Slides"}
    titles |= {f"patients_{split}": f"Patients: {split}" for split in SPLITS}
    titles |= {
        f"objects_{name}": f"{name.replace('_', ' ').capitalize()}: annotated" for name in run.study.task.classes
    }
    digits = {column: 0 for column in titles if column not in ("domain", "role")}
    return plain_table(
        "domains", "Domains: role, patients by split, slides and annotated objects.", frame, titles, digits
    )


def annotated_objects(run: LoadedRun) -> dict[str, dict[str, int]]:
    """Number of annotated objects by slide and class, from annotations/own."""
    objects: dict[str, dict[str, int]] = {}
    for slide in run.cohort["slide"]:
        path = run.path(f"annotations/own/{file_name(slide)}.geojson")
        if path is None:
            continue
        document = load_json(path)
        counts: dict[str, int] = {}
        for feature in document.get("features", []) if isinstance(document, dict) else document:
            kind = (feature.get("properties") or {}).get("classification") or {}
            name = str(kind.get("name", "") if isinstance(kind, dict) else kind)
            counts[name] = counts.get(name, 0) + 1
        objects[slide] = counts
    return objects


@register_table("patients", rotations="one")
def patients(run: LoadedRun) -> PageTable:
    """Patients × stains: which sections there are, and in which split."""
    stains = list(dict.fromkeys(run.cohort["stain"]))
    rows, shown = [], []
    for (centre, patient), slides in run.cohort.groupby(["centre", "patient"], sort=True):
        split = "/".join(dict.fromkeys(slides["split"]))
        counts = slides["stain"].value_counts()
        rows.append(
            {"centre": centre, "patient": patient, "split": split, **{s: int(counts.get(s, 0)) for s in stains}}
        )
        cells = [text(patient), text(centre), Cell(split, sort=split, mark=f"split-{split}")]
        shown.append(cells + [number(counts.get(s, np.nan), 0) for s in stains])
    columns = ["Patient", "Centre", "Split", *stains]
    return PageTable("patients", "Sections by patient, centre and stain.", columns, shown, pd.DataFrame(rows))


@register_table("registration")
def registration(run: LoadedRun) -> PageTable:
    titles = {
        "source": "Section", "target": "onto", "status": "Status", "reason": "Reason", "n_matches": "Matches",
        "tre_before_px": "TRE before, px", "tre_rigid_px": "rigid, px", "tre_nonrigid_px": "non-rigid, px",
        "tre_p90_px": "P90, px", "tre_nonrigid_um": "non-rigid, µm", "tissue_overlap": "Tissue overlap",
        "folds": "Folds", "seconds": "Seconds",
    }  # fmt: skip
    digits = {
        "n_matches": 0, "tre_before_px": 1, "tre_rigid_px": 1, "tre_nonrigid_px": 1, "tre_p90_px": 1,
        "tre_nonrigid_um": 1, "tissue_overlap": 2, "folds": 4, "seconds": 0,
    }  # fmt: skip
    frame = run.quality
    shown = {key for key in titles if key in frame and not (frame[key].isna() | frame[key].eq("")).all()}
    titles = {key: title for key, title in titles.items() if key in shown}
    note = (
        "TRE: median distance of corresponding landmarks, level-0 pixels of the section below; empty without landmarks."
    )
    return plain_table("registration", "Registration, one row per section.", frame, titles, digits, note)


def registration_words(run: LoadedRun) -> str:
    frame = run.quality
    states = frame["status"].value_counts()
    words = f"{len(frame)} sections were to be registered: " + ", ".join(
        f"{n} {str(state).replace('_', ' ')}" for state, n in states.items()
    )
    for column, unit in (("tre_nonrigid_um", "µm"), ("tre_nonrigid_px", "px")):
        if column in frame and frame[column].notna().any():
            before = frame.get(column.replace("nonrigid", "before"))
            start = f" (before: {decimal(before.median(), 1)} {unit})" if before is not None else ""
            words += (
                f". Median over sections of the median landmark error: {decimal(frame[column].median(), 1)} {unit}"
                f"{start}, {int(frame[column].notna().sum())} sections with landmarks"
            )
            break
    return words + "."


@register_table("propagation")
def propagation(run: LoadedRun) -> PageTable:
    """Kept and dropped by class and target stain."""
    stain = run.cohort.drop_duplicates("slide").set_index("slide")["stain"] if len(run.cohort) else pd.Series(dtype=str)
    frame = run.propagation.assign(stain=run.propagation["target"].map(stain).fillna(run.propagation["target"]))
    kept = frame["status"].eq("kept")
    grouped = frame.assign(kept=kept, dropped=~kept).groupby(["stain", "class"], sort=False)
    table = grouped.agg(
        sections=("target", "nunique"), carried=("id", "size"), kept=("kept", "sum"), dropped=("dropped", "sum")
    )
    if "area_ratio" in frame:
        table["area_ratio"] = frame[kept].groupby(["stain", "class"])["area_ratio"].median()
    titles = {
        "stain": "Onto stain", "class": "Class", "sections": "Sections", "carried": "Objects", "kept": "Kept",
        "dropped": "Dropped", "area_ratio": "Area ratio, median",
    }  # fmt: skip
    digits = {"sections": 0, "carried": 0, "kept": 0, "dropped": 0, "area_ratio": 2}
    return plain_table("propagation", "Annotations propagated to other sections.", table.reset_index(), titles, digits)


@register_table("propagation_reasons")
def propagation_reasons(run: LoadedRun) -> PageTable | None:
    dropped = run.propagation[~run.propagation["status"].eq("kept")]
    if dropped.empty:
        return None
    reasons = dropped["reason"].str.replace(r"\d+(\.\d+)?", "…", regex=True)
    frame = dropped.assign(reason=reasons).groupby("reason").size().sort_values(ascending=False)
    table = frame.rename("objects").reset_index()
    titles = {"reason": "Why dropped", "objects": "Objects"}
    return plain_table("propagation_reasons", "Reasons for which objects were dropped.", table, titles, {"objects": 0})


@register_table("agreement")
def agreement(run: LoadedRun) -> PageTable:
    """Propagated against drawn outlines: by stain and class, or every object where there are few."""
    frame = run.agreement
    if len(frame) <= MOST_LISTED_OBJECTS:
        titles = {
            "target": "Section", "class": "Class", "id": "Object", "dice": "Dice",
            "centroid_distance_px": "Centroid distance, px",
        }  # fmt: skip
        digits = {"dice": 3, "centroid_distance_px": 1}
        caption = "Propagated outlines against outlines drawn on the section itself, every object."
        return plain_table("agreement", caption, frame, titles, digits)
    stain = run.cohort.drop_duplicates("slide").set_index("slide")["stain"]
    grouped = frame.assign(stain=frame["target"].map(stain).fillna(frame["target"])).groupby(
        ["stain", "class"], sort=False
    )
    table = pd.DataFrame(
        {
            "objects": grouped.size(),
            "dice": grouped["dice"].median(),
            "dice_p10": grouped["dice"].quantile(0.1),
            "distance": grouped["centroid_distance_px"].median(),
        }
    ).reset_index()
    titles = {
        "stain": "Stain", "class": "Class", "objects": "Objects", "dice": "Dice, median",
        "dice_p10": "Dice, 10th percentile", "distance": "Centroid distance, px, median",
    }  # fmt: skip
    caption = "Propagated outlines against outlines drawn on the section itself."
    return plain_table("agreement", caption, table, titles, {"objects": 0, "dice": 2, "dice_p10": 2, "distance": 1})


@register_table("left_out")
def left_out(run: LoadedRun) -> PageTable | None:
    """Everything that failed, was refused, was skipped or fell back, with its reason."""
    rows = [*left_out_slides(run), *_rotations_not_complete(run), *_trainings_left_out(run)]
    for pair in run.quality.to_dict("records"):
        if str(pair["reason"]) or pair["status"] in ("refused", "rigid_only"):
            what = f"{pair['source']} onto {pair['target']}"
            rows.append({"stage": "registration", "what": what, "status": pair["status"], "reason": pair["reason"]})
    for row in run.tables[APPLIED.path].to_dict("records"):
        if row["status"] != "applied":
            what = f"{row['id']} on {row['target']}, decided by {row['reviewer']}"
            rows.append({"stage": "review", "what": what, "status": row["status"], "reason": row["reason"]})
    for name, reason in run.missing.items():
        if name in OPTIONAL or (run.rotates and name == RECORDS.path):  # each rotation has a row
            continue
        rows.append({"stage": "files", "what": name, "status": "missing", "reason": reason})
    if not rows:
        return None
    titles = {"stage": "Stage", "what": "What", "status": "Status", "reason": "Reason"}
    caption = f"{'Not run, failed' if run.rotates else 'Failed'}, refused, skipped, not reported or fallen back."
    return plain_table("left_out", caption, pd.DataFrame(rows).drop_duplicates(), titles)


def _rotations_not_complete(run: LoadedRun) -> list[dict[str, str]]:
    rows = []
    for rotation in run.rotations if run.rotates else ():
        if rotation.status != "complete":
            reason = rotation.reason or ("its test patients are not scored yet" if not rotation.scored else "")
            rows.append({"stage": "rotation", "what": rotation.name, "status": rotation.status, "reason": reason})
    return rows


def _trainings_left_out(run: LoadedRun) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    trials, refits = run.trials, run.tables[REFITS.path]
    for job in trials.to_dict("records"):
        if str(job["reason"]):
            what = f"{run.label(job['strategy'])}, trial {job['trial']}, seed {job['seed']}"
            what = f"{in_rotation(job.get('rotation'))}{what}"
            rows.append({"stage": "training", "what": what, "status": job["state"], "reason": job["reason"]})
    for job in refits.to_dict("records"):
        if str(job["reason"]):
            what = f"{run.label(job['strategy'])}, seed {job['seed']}, again from all source patients"
            what = f"{in_rotation(job.get('rotation'))}{what}"
            rows.append({"stage": "training", "what": what, "status": job["state"], "reason": job["reason"]})
    known = {str(job) for job in trials.loc[trials["reason"].astype(bool), "job"]}
    rows += pruned_trials(run)
    rows += excluded_trainings(run)
    for job in run.jobs.values():
        where = in_rotation(job.rotation)
        if job.error and job.name not in known:
            rows.append(
                {"stage": "training", "what": f"{where}job {job.name}", "status": "failed", "reason": job.error}
            )
        for slide, reason in (job.result.get("fallbacks") or {}).items():
            what = f"{where}colours of {slide}, job {job.name}"
            rows.append({"stage": "training", "what": what, "status": "fell back", "reason": str(reason)})
    return rows


@register_table("excluded")
def excluded(run: LoadedRun) -> PageTable | None:
    """Slides that were not used for something they could have served, and why."""
    rows: list[dict[str, str]] = []
    cohort = run.cohort.drop_duplicates("slide")
    scored = set(run.records.loc[run.records["split"] == "test", "slide"])
    if scored:
        for row in cohort[(cohort["split"] == "test") & ~cohort["slide"].isin(scored)].to_dict("records"):
            bare = str(row.get("n_shapes", "")) in ("", "nan")
            reason = "it has no annotations of its own" if bare else "no finished job has scores of it"
            rows.append({**_place(row), "from": "scoring", "reason": reason})
    by_slide = {row["slide"]: row for row in cohort.to_dict("records")}
    for pair in run.quality.to_dict("records"):
        if pair["status"] == "refused":
            known = by_slide.get(pair["source"], {"slide": pair["source"], "domain": "", "split": ""})
            reason = str(pair["reason"]) or "registration was refused"
            rows.append({**_place(known), "from": "registration and propagated annotations", "reason": reason})
    if not rows:
        return None
    titles = {"slide": "Slide", "domain": "Domain", "split": "Split", "from": "Left out of", "reason": "Why"}
    return plain_table("excluded", "Slides that were left out of a step.", pd.DataFrame(rows), titles)


def _place(row: dict[str, Any]) -> dict[str, str]:
    return {name: str(row.get(name, "")) for name in ("slide", "domain", "split")}


@register_table("landmarks")
def landmarks(run: LoadedRun) -> PageTable | None:
    """Errors over landmarks as the ANHIR challenge reports them, one row per pair and step."""
    frame = run.landmarks
    if frame.empty:
        return None
    titles = {
        "block": "Block", "source": "Section", "target": "onto", "step": "Step", "n_landmarks": "Landmarks",
        "tre_median_px": "TRE median, px", "tre_max_px": "TRE max, px", "tre_median_um": "TRE median, µm",
        "rtre_median": "rTRE median", "rtre_max": "rTRE max", "robustness": "Robustness", "reason": "Reason",
    }  # fmt: skip
    titles = {key: title for key, title in titles.items() if key in frame and not frame[key].isin(["", np.nan]).all()}
    digits = {
        "n_landmarks": 0, "tre_median_px": 1, "tre_max_px": 1, "tre_median_um": 1, "rtre_median": 4, "rtre_max": 4,
        "robustness": 2,
    }  # fmt: skip
    note = "rTRE: error over the diagonal of the image. Robustness: share of landmarks that came nearer (ANHIR)."
    return plain_table("landmarks", "Landmark errors by pair and step.", frame, titles, digits, note)


@register_table("annotators")
def annotators(run: LoadedRun) -> PageTable | None:
    frame = run.tables[ANNOTATORS.path]
    if frame.empty:
        return None
    titles = {
        "slide": "Slide", "class": "Class", "annotator": "Annotator", "objects": "Objects", "dice": "Dice",
        "sensitivity": "Sensitivity", "specificity": "Specificity", "object_recall": "Object recall",
        "object_precision": "Object precision", "weight": "Weight",
    }  # fmt: skip
    digits = {
        "objects": 0,
        **dict.fromkeys([name for name in titles if name not in ("slide", "class", "annotator")], 2),
    }
    digits["objects"] = 0
    return plain_table("annotators", "Each annotator against the fused annotations.", frame, titles, digits)


@register_table("annotator_pairs")
def annotator_pairs(run: LoadedRun) -> PageTable | None:
    frame = run.tables[ANNOTATOR_AGREEMENT.path]
    if frame.empty:
        return None
    titles = {
        "slide": "Slide", "class": "Class", "first": "Annotator", "second": "and", "dice": "Dice",
        "cohen_kappa": "Cohen's κ", "fleiss_kappa": "Fleiss' κ", "object_f1": "Object F1",
    }  # fmt: skip
    digits = dict.fromkeys(["dice", "cohen_kappa", "fleiss_kappa", "object_f1"], 2)
    return plain_table("annotator_pairs", "Agreement of annotators with each other.", frame, titles, digits)


@register_table("stages")
def stages(run: LoadedRun) -> PageTable:
    frame = run.stages.copy()
    rows = [
        [text(row["stage"]), Cell(duration(row["seconds"]), sort=row["seconds"], number=True)]
        for row in frame.to_dict("records")
    ]
    return PageTable(
        "stages", "Wall-clock time of each stage: the longest of its calls.", ["Stage", "Time"], rows, frame
    )
