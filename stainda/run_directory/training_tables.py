"""The tables of a run directory about trainings: what was searched, trained, left out and learned from."""

from __future__ import annotations

from stainda.run_directory.declaration import Column, Table
from stainda.run_directory.tables import columns

OF_TRAINING = (
    *columns("text", strategy="name of the strategy"),
    *columns("integer", trial="number of the searched setting, from 0", seed="of the training"),
)
OF_JOB = columns("text", job="name of its folder below `jobs/`")
OF_SECONDS = columns("number", seconds="wall-clock seconds of the training")
_CPU_SECONDS = columns("number", cpu_seconds="processor seconds of the training")
_REASON = columns("text", reason="why it failed")
_STATE = columns("text", state="`complete`, `failed`, `pruned` or `unfinished`")
_VALUE = columns("number", value="Dice on source validation of the best checkpoint (first objective of the search)")

TRIALS = Table(
    "trials.csv",
    "every training of the study, and comparable ones of strategies of earlier calls",
    "study",
    see="report",
    per_rotation=True,
    columns=(
        *OF_TRAINING, *OF_JOB, *_STATE, *_VALUE,
        *columns("truth", chosen="whether the search settled on its setting"),
        *columns("text", params="the searched settings, JSON"),
        *OF_SECONDS, *_CPU_SECONDS, *_REASON,
        *columns("number", second_value="second objective of the search"),
        *columns("integer", stopped_step="step at which it was pruned"),
        *columns("text", converged="`yes`, `rising` or `unclear`: source validation at its end"),
        *columns("number", peak_memory_mib="largest resident memory of the process, MiB",
                 peak_gpu_memory_mib="most that torch held of the GPU's memory, MiB",
                 cpu_energy_wh="its share of the energy of the processors, Wh",
                 gpu_energy_wh="its share of the energy of the GPU, Wh"),
    ),
)  # fmt: skip

PRETRAINING_CURVE = Table(
    "pretraining/<key>/loss.csv",
    "the loss of a training without labels",
    "training",
    see="self_supervised",
    columns=(
        *columns("integer", epoch="from 1", step="optimiser steps so far"),
        *columns("number", loss="mean of the epoch", seconds="wall-clock seconds so far"),
    ),
)

PRETRAININGS = Table(
    "pretraining.csv",
    "trainings without labels that strategies start from, with measures before and after",
    "study",
    see="self_supervised",
    per_rotation=True,
    columns=(
        *columns("text", key="name of its folder below `pretraining/`", name="`simclr`, `byol` or `autoencoder`",
                 pairs="`augmentation` or `serial`"),
        *columns("integer", seed="of the training"),
        *columns("text", strategies="those that start from it, apart by `;`"),
        *columns("integer", patches="patches it saw", pairs_used="pairs of serial sections it used",
                 pairs_left_out="pairs whose registration was too uncertain", steps="optimiser steps"),
        *columns("number", loss_first="mean loss of the first epoch", loss_last="mean loss of the last epoch",
                 retrieval_before="share of patches of validation patients whose own place is nearest among those of "
                                  "the other section, before",
                 retrieval_after="the same after", retrieval_chance="the same by chance",
                 alignment_before="mean squared distance of the two of a pair (Wang & Isola), before",
                 alignment_after="the same after",
                 uniformity_before="log mean Gaussian potential (Wang & Isola), before",
                 uniformity_after="the same after",
                 probe_before="area under the ROC curve of a linear probe (patch with an object or without) on source "
                              "validation, before",
                 probe_after="the same after"),
        *columns("text", measured_on="what retrieval and alignment were measured on"),
        *columns("number", seconds="wall-clock seconds", cpu_seconds="processor seconds"),
    ),
)  # fmt: skip

LABEL_SHARES = Table(
    "label_shares.csv",
    "where a strategy learns from a share of the labels: how many annotated objects each training used",
    "study",
    see="few_labels",
    per_rotation=True,
    columns=(
        *OF_TRAINING, *OF_JOB,
        *columns("text", start="what the network starts from", labels="kind of labels"),
        *columns("number", share="of the annotated objects of the source's training patients"),
        *columns("integer", objects="annotated objects used", of="annotated objects there are",
                 patients="patients who have one that is used"),
    ),
)  # fmt: skip

ACTIVE_REGIONS = Table(
    "active/regions.csv",
    "regions that `stainda active` suggests to annotate, the most wanted first",
    "study",
    see="few_labels",
    columns=(
        *columns("integer", rank="from 1"),
        *columns("text", method="how they were chosen", slide="name of the slide", block="the block",
                 domain="of the slide"),
        *columns("number", x="upper left corner, level-0 pixels", y="upper left corner, level-0 pixels",
                 side="level-0 pixels", score="of the method, higher is more wanted"),
    ),
)  # fmt: skip

ACTIVE_ROUNDS = Table(
    "active/rounds.csv",
    "simulated rounds of annotation",
    "study",
    see="few_labels",
    columns=(
        *columns("text", method="how regions were chosen"),
        *columns("integer", seed="of the trainings", round="from 1", regions="annotated so far",
                 objects="annotated objects they revealed"),
        *columns("number", dice="on source validation"),
        *columns("text", job="name of its folder below `active/simulated/`"),
    ),
)  # fmt: skip

EXCLUSIONS = Table(
    "exclusions.csv",
    "trainings that lie in `jobs/` and are not reported",
    "study",
    see="report",
    columns=(*TRIALS.columns, *columns("text", why="why they are not reported")),
)

LEFT_OUT = Table(
    "left_out.csv",
    "with `protocol.leave_one_patient_out`: the trainings without one source patient",
    "study",
    see="protocol",
    columns=(
        *columns("text", strategy="name of the strategy", without="the patient left out"),
        *OF_TRAINING[1:], *OF_JOB, *_STATE, *_VALUE, *OF_SECONDS, *_REASON,
    ),
)  # fmt: skip

LEAVE_ONE_OUT = Table(
    "leave_one_out.csv",
    "with `protocol.leave_one_patient_out`: Dice of these trainings next to that of the training with all patients; "
    "without a finished one it has the first column alone",
    "study",
    see="protocol",
    columns=(
        *columns("text", strategy="name of the strategy"),
        *columns("text", True, without="the patient left out; empty for the training with all"),
        *columns("integer", True, seed="of the training"),
        *columns("text", True, domain="target domain, or `all targets`"),
        *columns("number", True, dice="mean over test patients", difference="to the training with all patients"),
        *columns("integer", True, n_patients="test patients"),
    ),
)

REFITS = Table(
    "refits.csv",
    "with `protocol.refit`: the chosen trainings made again from all source patients",
    "study",
    see="protocol",
    columns=(
        *OF_TRAINING, *OF_JOB,
        *columns("text", repeats="the training that it repeats"),
        *_STATE, *OF_SECONDS, *_CPU_SECONDS, *_REASON,
    ),
)  # fmt: skip

BUDGET = Table(
    "budget.csv",
    "counted before the start: what every strategy may spend",
    "study",
    columns=(
        *columns("text", strategy="name of the strategy"),
        *columns("integer", trials="searched settings", seeds="seeds", steps="of a training",
                 labelled="labelled patches of a step", unlabelled="unlabelled patches of a step",
                 rotations="rotations of the study", jobs="trainings in all"),
        *columns("text", settings="what is searched", note="what makes it fewer or more"),
    ),
)  # fmt: skip

STAGE_SECONDS = Table(
    "stages.csv",
    "how long each stage took: the longest of its calls",
    "study",
    columns=(*columns("text", stage="name of the stage"), *columns("number", seconds="wall-clock seconds")),
)

TRAINING = Table(
    "jobs/<job>/training.csv",
    "one row per epoch",
    "training",
    columns=(
        *columns("integer", epoch="from 1", step="steps made"),
        *columns("number", seconds="wall-clock seconds since the start"),
        *columns("number", True, val_dice="pooled Dice on source validation; not of a refit"),
        *columns("text", True, val_patients="Dice by validation patient, JSON; not of a refit"),
    ),
    more=Column("loss_<term>", "number", "mean of the term over the epoch"),
)

EFFECT = Table(
    "jobs/<job>/effect.csv",
    "what the alignment did at twelve steps or more, in every epoch; of strategies that align",
    "training",
    see="report",
    columns=(
        *columns("integer", step="the step"),
        *columns("number", gradient_ratio="gradient that the alignment adds, over that of the task"),
        *columns("text", discriminator="name of the discriminator"),
        *columns("number", discriminator_accuracy="mean over domains of the share named right",
                 chance_accuracy="of a blind discriminator", discriminator_loss="cross-entropy, nats",
                 chance_loss="of a blind discriminator, nats",
                 distance="what the method minimises, without its weight"),
        *columns("number", True,
                 patches="patches that the discriminator judged, positions of one patch counting once; domains that "
                         "are not equally many count as fewer"),
    ),
)  # fmt: skip

TRAINING_TABLES: tuple[Table, ...] = (
    TRIALS, PRETRAINING_CURVE, PRETRAININGS, LABEL_SHARES, ACTIVE_REGIONS, ACTIVE_ROUNDS, EXCLUSIONS, LEFT_OUT,
    LEAVE_ONE_OUT, REFITS, BUDGET, STAGE_SECONDS, TRAINING, EFFECT,
)  # fmt: skip
