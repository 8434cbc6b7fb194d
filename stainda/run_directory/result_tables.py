"""The tables of a run directory about what trainings came to: scores, comparisons, rotations."""

from __future__ import annotations

from stainda.run_directory.declaration import Table
from stainda.run_directory.tables import columns
from stainda.run_directory.training_tables import OF_JOB, OF_TRAINING

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
    columns=(*OF_TRAINING, *_CHECKPOINT, *columns("number", True, **_SCORES)),
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
    *_STUDY, *OF_TRAINING, *_CHECKPOINT, *OF_JOB,
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

CONFUSION = Table(
    "confusion.parquet",
    "of tasks with several classes: pixels and objects by annotated and predicted class, of the best checkpoint",
    "study",
    see="tasks",
    columns=(
        *_SLIDE,
        *columns("text", unit="`pixels` (of tissue, at the working scale) or `objects` (at the overlap of "
                              "`evaluation.iou`, whatever their classes)",
                 annotated="class, or `background`: the object is false",
                 predicted="class, or `background`: the object was missed"),
        *columns("integer", count="how many"),
    ),
)  # fmt: skip

REGRET = Table(
    "threshold_regret.csv",
    "of every training, domain and class: Dice at the threshold in use and the best one of the domain's test slides, "
    "a diagnosis that chooses nothing",
    "study",
    see="protocol",
    columns=(
        *OF_TRAINING, *OF_JOB,
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
        *OF_TRAINING, *OF_JOB,
        *columns("integer", jobs="trainings in the row", not_effective="those in which the method did not act"),
        *columns("number",
                 gradient_ratio="median over the second half of the steps of the added gradient over the task's",
                 largest_ratio="largest at any step", discriminator_accuracy="mean over the second half of the steps",
                 chance_accuracy="of a blind discriminator"),
        *columns("number", True, discriminator_loss="its cross-entropy, mean over the second half of the steps, nats",
                 chance_loss="of a blind discriminator, nats"),
        *columns("number",
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
    interval_kind="what `low` and `high` are: `interval` (over patients and trainings), `range` (fewer than six "
    "patients or one training: lowest and highest patient) or `none`",
)
_NOTE = columns("text", note="what to know about the row")
_MEAN = columns("number", mean="mean over test patients", low="lower end", high="upper end")
_SCORE = columns("number", mean="mean over test patients", low="lower end, within what the measure can be",
                 high="upper end, the same")  # fmt: skip
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
        *_SCORE, *_COUNTS,
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
    "every strategy over all rotations, by Dice, object F1 and AJI: each patient's mean over the rotations in which it "
    "was tested",
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
    RECORDS, OBJECTS, PROBABILITIES, CONFUSION, RESULTS, AVERAGE_PRECISION, REGRET, ENCODERS, UNSUPERVISED,
    ALIGNMENT_EFFECTS, DOMAIN_GAP, IMPORTANCE, SLICES, ROTATIONS, EARLIER_ROTATIONS, MATRIX, OVERALL,
    JOB_UNSUPERVISED, JOB_AGREEMENT,
)  # fmt: skip
