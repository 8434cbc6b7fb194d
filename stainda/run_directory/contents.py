"""Every file of a run directory: those that are no tables are declared here, and all are listed."""

from __future__ import annotations

from dataclasses import replace

from stainda.run_directory.declaration import File
from stainda.run_directory.microenvironment_tables import MICROENVIRONMENT_FILES, MICROENVIRONMENT_TABLES
from stainda.run_directory.result_tables import CONFUSION, OBJECTS, PROBABILITIES, RECORDS, RESULT_TABLES
from stainda.run_directory.slide_level_tables import SLIDE_LEVEL_FILES, SLIDE_LEVEL_TABLES
from stainda.run_directory.tables import TABLES
from stainda.run_directory.training_tables import TRAINING_TABLES

STUDY = File(
    "study.yaml",
    "the study as it was run: names resolved, overrides applied, ranges apart from defaults, and "
    "the version of the run directory (`run_format`)",
    "study",
)
ENVIRONMENT = File("environment.json", "versions, commit, hardware, command, seed", "study")
PROGRESS = File("progress.json", "how far the run is, written every two seconds while it works", "study", see="resume")
LOG = File("stainda.log", "what stainda and its libraries logged", "study")
LOCK = File(".lock", "held by the process that works in the run directory", "study")
LOCK_CLAIM = File(".lock.<claim>", "the same for other machines: rewritten every three seconds", "study", see="workers")
STORAGE = File("study.db", "the search as Optuna studies (`stainda dashboard RUN`)", "study")

SHARED_STUDY = File(
    "shared/study.json", "while trainings go on: the sections they are scored on, for `stainda worker`", "study",
    see="workers",
)  # fmt: skip
SHARED_OPEN = File("shared/open/<job>.json", "a training that any worker may take", "study", see="workers")
SHARED_ENDED = File("shared/ended/<job>.json", "how it ended, until the leader has seen it", "study", see="workers")
SHARED_CLAIM = File(
    "shared/claims/<claim>", "who trains it: rewritten every few seconds while it is trained", "study", see="workers"
)

THUMBNAIL = File("thumbnails/<slide>.jpg", "the slide, small", "study")
FIELD = File("fields/<slide>.jpg", "the field of view of each section, for the report", "patches")
FIELD_INPUTS = File("fields/inputs.txt", "hash of what the fields depend on", "patches")
GALLERY_PICTURE = File(
    "object_gallery/<place>__<slide>.jpg", "an object in one of its sections, warped into the frame", "study"
)
GALLERY_INPUTS = File("object_gallery/inputs.txt", "hash of what the pictures depend on", "study")

TRANSFORM = File(
    "registration/<block>/<slide>.json",
    "the transform of the section, or why it was refused",
    "registration",
    see="transforms",
)
TRANSFORM_ARRAYS = File(
    "registration/<block>/<slide>.npz", "its arrays, readable with NumPy alone", "registration", see="transforms"
)
BLOCK = File(
    "registration/<block>/block.json",
    "written last: the block's reference, its sections, and its rows of `quality.csv`",
    "registration",
)
REGISTRATION_INPUTS = File(
    "registration/inputs.json",
    "of each block what its result depends on (settings, slides, pixel sizes), and the run it was taken from, if any",
    "registration",
)
OVERLAY = File("registration/overlays/<pair>.jpg", "the pair before and after registration", "registration")
REGISTRATION_LOG = File(
    "registration/log/<block>.log", "what VALIS printed; `worker.log` is of the process", "registration"
)

OWN = File("annotations/own/<slide>.geojson", "the slide's annotations as they were read (QuPath GeoJSON)", "study")
DISSENT = File(
    "annotations/dissent/<slide>.geojson",
    "where a slide has several annotators: what a minority drew",
    "study",
    see="fusion",
)
DRAWN = File(
    "annotations/drawn/<slide>/<annotator>.geojson",
    "where a slide has several annotators: what each of them drew",
    "study",
    see="fusion",
)
PROPAGATED = File(
    "annotations/propagated/<slide>.geojson",
    "propagated objects with their confidence",
    "registration",
    see="propagation",
)
IGNORED = File(
    "annotations/ignored/<slide>.geojson", "areas about which nothing is known", "registration", see="propagation"
)
PROPAGATED_BLOCK = File(
    "annotations/blocks/<block>/block.json",
    "what propagation gave for the block before the review; taken again where nothing it depends on has changed",
    "registration",
)
PROPAGATED_BLOCK_SHAPES = File(
    "annotations/blocks/<block>/<kind>/<slide>.geojson", "its `propagated` and `ignored` shapes", "registration"
)

DECISIONS = File("review/decisions.geojson", "the decision about each object, with its outline", "review", see="review")
REVIEW_LOCK = File("review/.lock", "held while a decision is written", "review")

STORE_META = File("patches/meta.json", "size, margin and scale of the patches, classes, what was skipped", "patches")
STORE_DIGESTS = File("patches/digests.npz", "a hash of every patch, from which trainings are named", "patches")
STORE_TISSUE = File("patches/tissue.npz", "colours of tissue pixels of every slide", "patches")
STORE_OBJECTS_META = File("patches/objects.json", "hash of what `objects.parquet` depends on", "patches")
STORE_ARRAYS = File(
    "patches/<array>.npy",
    "pixels (`images`), labels (`labels_own`, `labels_propagated`), `weights`, `details` and `votes`, a row per patch",
    "patches",
)
SERIAL_META = File("patches/serial/meta.json", "number of pairs, hash of what they depend on", "patches")
SERIAL_ARRAYS = File(
    "patches/serial/<array>.npy",
    "second patches (`images`), where each pixel lies in them (`grid`), and how certain that is (`certainty`)",
    "patches",
)

_OF_PRETRAINING = "of pairs for training without labels and of validation patients: as below `patches/serial/`"
SERIAL_TISSUE_META = File("patches/serial_<pairs>/meta.json", _OF_PRETRAINING, "patches", see="self_supervised")
SERIAL_TISSUE_ARRAYS = File("patches/serial_<pairs>/<array>.npy", _OF_PRETRAINING, "patches", see="self_supervised")

PRETRAINING_SETTINGS = File(
    "pretraining/<key>/settings.json", "everything the training without labels depends on", "training",
    see="self_supervised",
)  # fmt: skip
ENCODER = File(
    "pretraining/<key>/encoder.safetensors", "the encoder it came to, from which trainings start", "training",
    see="self_supervised",
)  # fmt: skip
PRETRAINING_RESULT = File(
    "pretraining/<key>/result.json", "what it took, and measures of the encoder before and after", "training",
    see="self_supervised",
)  # fmt: skip
ACTIVE_REGION = File(
    "active/regions/<slide>.geojson", "regions to annotate on the slide, for QuPath", "study", see="few_labels"
)  # fmt: skip
ACTIVE_JOB = File(
    "active/simulated/<job>/**", "a training of a simulated round, as below `jobs/`", "training", see="few_labels"
)  # fmt: skip
PRETRAINING_LOCK = File("pretraining/<key>/.lock", "held by the process that trains it", "training")
PRETRAINING_RESUME = File(
    "pretraining/<key>/resume.*", "where an interrupted one goes on", "training", see="resume"
)  # fmt: skip

FEATURES_META = File(
    "features/<cache>/meta.json", "what a cache of features is of: patches, encoder, view, augmentation", "training",
    see="fine_tuning",
)  # fmt: skip
FEATURES_ARRAYS = File(
    "features/<cache>/<array>.npy",
    "what the frozen encoder gives (`features_0` and on), with `labels` and their `weights`: a row per patch and view",
    "training", see="fine_tuning",
)  # fmt: skip

ENCODER_FIGURES = File(
    "encoders/robustness.*", "the figure of encoders/robustness.csv (SVG, PNG)", "study", see="robustness"
)

SETTINGS = File("jobs/<job>/settings.json", "everything the training depends on", "training")
RESULT = File("jobs/<job>/result.json", "what the training came to: score, thresholds, steps, costs", "training")
JOB_LOG = File("jobs/<job>/log.txt", "messages of the training", "training")
MODEL = File("jobs/<job>/model.safetensors", "weights of the best checkpoint on source validation", "training")
LAST_MODEL = File("jobs/<job>/last.safetensors", "weights of the last step", "training")
STATISTICS = File("jobs/<job>/statistics.safetensors", "batch statistics of the best checkpoint by domain", "training")
LAST_STATISTICS = File(
    "jobs/<job>/last_statistics.safetensors", "batch statistics of the last step by domain", "training"
)
VIEW = File("jobs/<job>/view.json", "what the network sees, fitted on the training domains", "training")
RESUME = File(
    "jobs/<job>/resume.safetensors", "where an interrupted training goes on: tensors", "training", see="resume"
)
RESUME_REST = File(
    "jobs/<job>/resume.json", "where an interrupted training goes on: all else", "training", see="resume"
)
PREDICTION = File(
    "jobs/<job>/predictions/<slide>.geojson", "objects found on the slide by the best checkpoint", "study"
)
PRUNED = File("jobs/<job>/pruned.json", "of a pruned training: when and on what grounds", "study")
DONE = File("jobs/<job>/done", "the training is scored; holds the hash of what the scores depend on", "study")
ERROR = File("jobs/<job>/error.txt", "why the training failed", "study")
EVENTS = File(
    "tensorboard/<events>/*", "where `log_to: tensorboard` is set: curves of a training", "study", see="workers"
)
MLFLOW_STORE = File(
    "mlflow/mlflow.db", "where `log_to: mlflow` is set: runs of MLflow (SQLite)", "study", see="workers"
)
MLFLOW_ARTIFACTS = File("mlflow/artifacts/**", "what you add to these runs", "study", see="workers")
MLFLOW_RUN = File(
    "jobs/<job>/mlflow.json", "the training's run in MLflow: its store and number", "study", see="workers"
)
ATTEMPT = File(
    "jobs/<job>/attempt.json", "while it is trained: how often its process died here before", "study", see="resume"
)
JOB_TABLES = tuple(
    replace(table, path=f"jobs/<job>/{table.path}", meaning="the training's rows", see="", per_rotation=False)
    for table in (RECORDS, OBJECTS, PROBABILITIES, CONFUSION)
)

PHANTOM_MANIFEST = File("phantom/manifest.csv", "manifest of the synthetic cohort", "phantom")
PHANTOM = File("phantom/**", "slides, annotations and truth of the synthetic cohort", "phantom")
ROTATION = File("rotations/<rotation>/**", "a run directory of the rotation, with these files", "study", see="protocol")
REPORT = File("report/index.html", "the page", "report", see="report")
REPORT_FILES = File(
    "report/**",
    "the answer as text (`answer.txt`), tables (CSV, Markdown, LaTeX), figures (SVG, PNG, CSV) and model cards",
    "report",
    see="report",
)

FILES: tuple[File, ...] = (
    STUDY, ENVIRONMENT, PROGRESS, LOG, LOCK, STORAGE, SHARED_STUDY, SHARED_OPEN, SHARED_ENDED,
    SHARED_CLAIM, THUMBNAIL, FIELD, FIELD_INPUTS, GALLERY_PICTURE, GALLERY_INPUTS,
    TRANSFORM, TRANSFORM_ARRAYS, BLOCK, REGISTRATION_INPUTS, OVERLAY, REGISTRATION_LOG, OWN, DISSENT, DRAWN, PROPAGATED,
    IGNORED, PROPAGATED_BLOCK, PROPAGATED_BLOCK_SHAPES, DECISIONS, REVIEW_LOCK, STORE_META, STORE_DIGESTS, STORE_TISSUE,
    STORE_OBJECTS_META, STORE_ARRAYS, SERIAL_META, SERIAL_ARRAYS, SERIAL_TISSUE_META, SERIAL_TISSUE_ARRAYS,
    PRETRAINING_SETTINGS, ENCODER, PRETRAINING_RESULT, PRETRAINING_LOCK, PRETRAINING_RESUME, ACTIVE_REGION, ACTIVE_JOB,
    FEATURES_META, FEATURES_ARRAYS, ENCODER_FIGURES,
    SETTINGS, RESULT, JOB_LOG, MODEL, LAST_MODEL, STATISTICS, LAST_STATISTICS, VIEW, RESUME, RESUME_REST, PREDICTION,
    PRUNED, DONE, ERROR, ATTEMPT, EVENTS, MLFLOW_STORE, MLFLOW_ARTIFACTS,
    MLFLOW_RUN, PHANTOM_MANIFEST, PHANTOM, ROTATION, REPORT, REPORT_FILES,
)  # fmt: skip

CONTENTS: tuple[File, ...] = (
    *TABLES, *TRAINING_TABLES, *RESULT_TABLES, *MICROENVIRONMENT_TABLES, *SLIDE_LEVEL_TABLES, *JOB_TABLES, *FILES,
    *MICROENVIRONMENT_FILES, *SLIDE_LEVEL_FILES,
)  # fmt: skip
"""Every file of a run directory, tables first."""


def declared(path: str) -> File | None:
    """The declaration of a file by its path below the run directory, ``None`` for one that stainda does not write."""
    return next((entry for entry in CONTENTS if entry.matches(path)), None)
