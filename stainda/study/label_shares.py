"""How many annotated objects every training of a study used, where one learned from a share of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stainda.config import StudyConfig
from stainda.names import stem
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.training_tables import LABEL_SHARES, TRIALS
from stainda.study.refitting import read_refits

if TYPE_CHECKING:
    from stainda.patches.label_objects import LabelObjects
    from stainda.training import Job


def write_label_shares(config: StudyConfig, folder: RunFolder) -> None:
    """Write ``label_shares.csv``, or remove it where no strategy learns from a share.

    Trainings that were made again from all source patients have rows too: more objects are theirs.
    """
    from stainda.patches import PatchStore
    from stainda.patches.label_objects import LabelObjects
    from stainda.strategies import build
    from stainda.training import Job

    if all(build(strategy).labels.of_objects is None for strategy in config.strategies):
        LABEL_SHARES.at(folder.root).unlink(missing_ok=True)
        return
    objects = LabelObjects.open(PatchStore.open(folder.patches))
    complete = [row for row in TRIALS.rows(folder.root) if row["state"] == "complete"]
    rows = []
    for row in [*complete, *read_refits(folder).to_dict("records")]:
        names = {name: row[name] for name in ("strategy", "trial", "seed", "job")}
        rows.append({**names, **_used(Job.load(folder.job(row["job"])), objects)})
    LABEL_SHARES.write(folder.root, rows)


def _used(job: Job, objects: LabelObjects) -> dict[str, Any]:
    from stainda.patches.label_share import LabelShare
    from stainda.strategies import build

    labels, refit = build(job.strategy).labels, bool(job.repeats)
    chosen = LabelShare(labels.of_objects or 1.0, job.seed).choose(objects, job.without, refit)
    everything = LabelShare(1.0, job.seed).choose(objects, job.without, refit)
    return {
        "start": start_of(job), "labels": labels.name, "share": labels.of_objects or 1.0,
        "objects": int(chosen.sum()), "of": int(everything.sum()),
        "patients": int(objects.table["patient"][chosen].nunique()),
    }  # fmt: skip


def start_of(job: Job) -> str:
    """What a training starts from, and what of it learns, in words: strategies that share both make one curve."""
    train = "" if job.training.train.everything else f", train: {job.training.train}"
    if job.model.weights_part is not None:
        weights = job.training.start.replace("_", " ")
    else:
        weights = stem(job.model.weights).replace("_", " ") if job.model.weights else "random"
    if job.training.init is None:
        return (weights if weights == "random" else f"weights ({weights})") + train
    return f"{job.training.init.name}, {job.training.init.pairs} pairs, from {weights}{train}"
