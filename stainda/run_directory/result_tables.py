"""The tables of a run directory about trainings and what they came to."""

from __future__ import annotations

from stainda.run_directory.declaration import Column, Table
from stainda.run_directory.tables import columns

_TRAINING = (
    *columns("text", strategy="name of the strategy"),
    *columns("integer", trial="number of the searched setting, from 0", seed="of the training"),
)
_JOB = columns("text", job="name of its folder below `jobs/`")
_SECONDS = columns("number", seconds="wall-clock seconds of the training")
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
        *_TRAINING, *_JOB, *_STATE, *_VALUE,
        *columns("truth", chosen="whether the search settled on its setting"),
        *columns("text", params="the searched settings, JSON"),
        *_SECONDS, *_CPU_SECONDS, *_REASON,
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
        *columns("text", key="name of its folder below `pretraining/`", name="`simclr` or `byol`",
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
        *_TRAINING, *_JOB,
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
        *_TRAINING[1:], *_JOB, *_STATE, *_VALUE, *_SECONDS, *_REASON,
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
        *_TRAINING, *_JOB,
        *columns("text", repeats="the training that it repeats"),
        *_STATE, *_SECONDS, *_CPU_SECONDS, *_REASON,
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
    "what the alignment did at twelve steps; of strategies that align",
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
    ),
)  # fmt: skip

_SCORES = {
    "entropy": "certainty of the predictions on target pixels",
    "information": "mutual information of pixels and classes",
    "nuclear_norm": "nuclear norm of the predictions", "neighbourhoods": "soft neighbourhood density",
    "clusters": "how well predictions follow clusters of features",
    "nearest_source": "how often the nearest source pixel has the same class",
    "mmd": "minus the discrepancy of features",
    "deep_embedded": "deep embedded validation", "serial_agreement": "agreement between registered serial sections",
}  # fmt: skip
_CHECKPOINT = columns("text", checkpoint="`best` on source validation, `last`, or `refit`")

JOB_UNSUPERVISED = Table(
    "jobs/<job>/unsupervised.csv",
    "how good each checkpoint looks on unlabelled targets; higher is better",
    "study",
    see="protocol",
    columns=(*_CHECKPOINT, *columns("number", **_SCORES)),
)

UNSUPERVISED = Table(
    "unsupervised.csv",
    "the same of all trainings, for the selection rules",
    "study",
    see="protocol",
    columns=(*_TRAINING, *_CHECKPOINT, *columns("number", True, **_SCORES)),
)

JOB_AGREEMENT = Table(
    "jobs/<job>/agreement.csv",
    "what comparing the sections of a block did to the objects found; of strategies that compare them",
    "study",
    see="strategies",
    columns=(
        *_CHECKPOINT,
        *columns("text", slide="name of the slide"),
        *columns("integer", found="objects at the threshold", kept="kept of them", dropped="dropped of them",
                 fainter="fainter candidates", added="added of these", witnesses="other sections that could speak"),
        *columns("text", reason="why nothing was compared", block="the block"),
    ),
)  # fmt: skip

_STUDY = columns("text", study="name of the study")
_SLIDE = (
    *_STUDY, *_TRAINING, *_CHECKPOINT, *_JOB,
    *columns("text", stain="of the slide", centre="of the slide", domain="of the slide", patient="name of the patient",
             slide="name of the slide", split="`val`: validation patients of the source, `test`: test patients"),
)  # fmt: skip

RECORDS = Table(
    "records.parquet",
    "every score of every training with its raw counts: one row per training, checkpoint, slide, class and measure",
    "study",
    see="protocol",
    per_rotation=True,
    columns=(
        *_SLIDE,
        *columns("text", class_="the class", measure="name of the measure"),
        *columns("number", value="empty where there is nothing to find and nothing was found",
                 tp="true positives: pixels at the working scale, or objects at the overlap of `evaluation.iou`",
                 fp="false positives", fn="false negatives"),
    ),
)  # fmt: skip

OBJECTS = Table(
    "objects.parquet",
    "one row per object found or missed by the best checkpoint",
    "study",
    columns=(
        *_SLIDE,
        *columns("text", class_="the class",
                 kind="at IoU 0.5 `hit`, `false` or `missed`; `slide`: one row per slide and class; `candidate`: every "
                      "candidate, also below the threshold"),
        *columns("number", score="of a detection, 0 to 1", iou="with the annotated object, 0 to 1",
                 area_um2="found area, of a `slide` row its tissue, µm²", true_area_um2="annotated area, µm²",
                 hits="of a candidate: bit i is a hit at IoU 0.5 + 0.05 i"),
    ),
)  # fmt: skip

PROBABILITIES = Table(
    "probabilities.parquet",
    "pixels by probability, in 20 bins, of the best checkpoint",
    "study",
    columns=(
        *_SLIDE,
        *columns("text", class_="the class"),
        *columns("number", bin="number of the bin, from 0", positive="pixels that are of the class",
                 negative="pixels that are not", total="sum of their probabilities"),
        *columns("number", True, threshold="in use", own="pixels of the class whose most probable class is this one",
                 other="other pixels whose most probable class is this one"),
    ),
)  # fmt: skip

REGRET = Table(
    "threshold_regret.csv",
    "of every training, domain and class: Dice at the threshold in use and the best one of the domain's test slides, "
    "a diagnosis that chooses nothing",
    "study",
    see="protocol",
    columns=(
        *_TRAINING, *_JOB,
        *columns("text", domain="the domain", class_="the class"),
        *columns("number", threshold="in use", dice="mean over test patients at it",
                 best_threshold="the best one for these slides", best_dice="mean over test patients at that",
                 lost="the difference", lost_low="of the patient that lost least",
                 lost_high="of the patient that lost most"),
        *columns("integer", n_patients="test patients"),
    ),
)  # fmt: skip

ALIGNMENT_EFFECTS = Table(
    "alignment_effects.csv",
    "whether the alignment of each training acted",
    "study",
    see="report",
    columns=(
        *_TRAINING, *_JOB,
        *columns("integer", jobs="trainings in the row", not_effective="those in which the method did not act"),
        *columns("number",
                 gradient_ratio="median over the second half of the steps of the added gradient over the task's",
                 largest_ratio="largest at any step", discriminator_accuracy="mean over the second half of the steps",
                 chance_accuracy="of a blind discriminator",
                 distance_first="what the method minimises, at the first step",
                 distance_last="the same at the last step"),
        *columns("text", reason="why it was not effective; empty where it was"),
    ),
)  # fmt: skip

DOMAIN_GAP = Table(
    "domain_gap.csv",
    "how far sources and targets are apart in colour and in the baseline's features",
    "study",
    columns=(
        *columns("text", source="the source domain", target="the target domain"),
        *columns("number", optical_density_distance="between the mean colours, optical density",
                 lab_distance="Wasserstein distance of the colours, CIE Lab",
                 proxy_a_distance="0: a linear classifier cannot tell the domains by the features; 2: it never fails"),
        *columns("text", proxy_a_note="why it is empty"),
        *columns("number", cka="likeness of the features of registered patches, 0 to 1"),
        *columns("integer", n_pairs="registered patches compared"),
    ),
)  # fmt: skip

ENCODERS = Table(
    "encoders/robustness.csv",
    "whether features of encoders tell classes before they tell centre and stain (stainda weights compare)",
    "study",
    columns=(
        *columns("text", encoder="as it was named", start="the file it started from, or random",
                 against="the groups: centre, stain"),
        *columns("number", robustness_index="1: neighbours share the class, 0: they share the group",
                 chance="the index of neighbours drawn at random"),
        *columns("integer", k="neighbours looked at"),
        *columns("number", balanced_accuracy="of telling the class by them",
                 same_class_other_group="share of neighbours", other_class_same_group="share of neighbours",
                 performance_drop="mean relative loss of accuracy where class and group go together in training",
                 accuracy="where they do not", worst_accuracy="where they go together entirely"),
        *columns("text", note="why a number is not there"),
        *columns("integer", n_patches="patches", n_patients="patients"),
    ),
    see="robustness",
)  # fmt: skip

_INTERVAL = columns(
    "text",
    interval_kind="what `low` and `high` are: `interval` (over patients and trainings), `interval, these trainings` "
    "(one training: over patients alone), `range` (fewer than six patients: lowest and highest) or `none`",
)
_NOTE = columns("text", note="what to know about the row")
_MEAN = columns("number", mean="mean over test patients", low="lower end", high="upper end")
_COUNTS = columns("integer", n_patients="test patients", n_seeds="seeds")

RESULTS = Table(
    "results.csv",
    "scores per strategy and domain with intervals",
    "study",
    see="protocol",
    per_rotation=True,
    columns=(
        *columns("text", strategy="name of the strategy", stain="of the domain; `*` for several",
                 centre="of the domain; `*` for several",
                 selection="the rule that chose among trials and checkpoints; `oracle` looks at test labels",
                 measure="name of the measure"),
        *_MEAN, *_COUNTS,
        *columns("text", domain="the domain, `all targets` or `all sources`", role="`source` or `target`",
                 class_="the class, or `all`"),
        *_INTERVAL, *_NOTE,
    ),
)  # fmt: skip

AVERAGE_PRECISION = Table(
    "average_precision.csv",
    "average precision per strategy and domain, of all slides in one ranking",
    "study",
    columns=(
        *columns("text", strategy="name of the strategy", domain="the domain, `all targets` or `all sources`",
                 role="`source` or `target`", class_="the class",
                 measure="`ap50`, `ap75` or `ap` (mean over IoU 0.5 to 0.95)"),
        *_MEAN, *_COUNTS,
        *columns("integer", annotated="annotated objects"),
        *_INTERVAL, *_NOTE,
    ),
)  # fmt: skip

IMPORTANCE = Table(
    "search/importance.csv",
    "how much each searched setting mattered",
    "study",
    columns=(
        *columns("text", strategy="name of the strategy", setting="the setting, dotted"),
        *columns("number", importance="share of the variance of the objective that it explains (fANOVA), 0 to 1"),
        *columns("integer", n_trials="completed trials"),
        *columns("text", note="why it is empty, or says little"),
    ),
)

SLICES = Table(
    "search/slices.csv",
    "the score at each value tried",
    "study",
    columns=(
        *columns("text", strategy="name of the strategy"),
        *columns("integer", trial="number of the trial, from 0"),
        *columns("text", setting="the setting, dotted", value="what was tried"),
        *columns("number", score="first objective, on source validation", second_score="second objective"),
    ),
)

ROTATIONS = Table(
    "rotations.csv",
    "the rotations of the study: who teaches and who is tested",
    "study",
    see="protocol",
    columns=columns(
        "text", rotation="name of the rotation", group="name of its sources, shared by its folds",
        folder="its run directory, below this one", sources="domains that teach, apart by `; `",
        targets="domains that are tested, apart by `; `", train="patients, apart by `; `",
        val="patients, apart by `; `",
        test="patients, apart by `; `", state="`complete`, `failed`, `unfinished` or `left out`", reason="why",
    ),
)  # fmt: skip

EARLIER_ROTATIONS = Table(
    "earlier_rotations.csv",
    "the rotations of a study that rotated in an earlier call; they are not reported",
    "study",
    columns=ROTATIONS.columns,
)

MATRIX = Table(
    "matrix.csv",
    "from sources to targets: Dice of every strategy in every rotation",
    "study",
    see="protocol",
    columns=(
        *columns("text", strategy="name of the strategy", rotation="the rotation, or its group where it has folds",
                 sources="domains that taught, apart by `; `", target="the domain tested", role="`source` or `target`",
                 class_="the class, or `all`", measure="name of the measure"),
        *_MEAN, *_COUNTS, *_INTERVAL,
    ),
)  # fmt: skip

OVERALL = Table(
    "overall.csv",
    "every strategy over all rotations: each patient's mean over the rotations in which it was tested",
    "study",
    see="protocol",
    columns=(
        *columns("text", strategy="name of the strategy", measure="name of the measure"),
        *_MEAN,
        *columns("number", difference="to the baseline", difference_low="lower end", difference_high="upper end",
                 p="of the difference", p_holm="corrected for all comparisons (Holm)",
                 gap_closed="share of the gap between baseline and ceiling", gap_closed_low="lower end",
                 gap_closed_high="upper end"),
        *_COUNTS,
        *columns("integer", n_rotations="rotations"),
        *_INTERVAL, *_NOTE,
    ),
)  # fmt: skip

RESULT_TABLES: tuple[Table, ...] = (
    BUDGET, TRIALS, PRETRAININGS, PRETRAINING_CURVE, LABEL_SHARES, ACTIVE_REGIONS, ACTIVE_ROUNDS, EXCLUSIONS, REFITS,
    LEFT_OUT, LEAVE_ONE_OUT, STAGE_SECONDS, RECORDS, OBJECTS, PROBABILITIES, RESULTS, AVERAGE_PRECISION, REGRET,
    ENCODERS, UNSUPERVISED, ALIGNMENT_EFFECTS, DOMAIN_GAP, IMPORTANCE, SLICES, ROTATIONS, EARLIER_ROTATIONS, MATRIX,
    OVERALL, TRAINING, EFFECT, JOB_UNSUPERVISED, JOB_AGREEMENT,
)  # fmt: skip
