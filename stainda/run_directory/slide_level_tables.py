"""The tables of labels of whole slides: what each slide was given, and how right that was."""

from __future__ import annotations

from stainda.run_directory.declaration import File, Table
from stainda.run_directory.tables import columns

_BY = "slide_level"
_METHOD = columns("text", aggregator="how patches become one answer: `mean`, `max`, `attention`, `clam`, `transmil`")

SLIDE_SCORES = Table(
    "slide_level/scores.csv",
    "one row per slide, aggregator and training: how much speaks for the label that is to be found",
    _BY,
    see="slides",
    per_rotation=True,
    columns=(
        *columns("text", slide="name of the slide", patient="name of the patient", domain="domain of the slide",
                 split="`train`, `val` or `test`", role="`source` or `target`", label="as the manifest has it"),
        *columns("truth", positive="whether that is the label to be found"),
        *_METHOD,
        *columns("integer", seed="of the training", patches="patches of the slide"),
        *columns("number", log_odds="of the label to be found: positive speaks for it",
                 probability="the same, 0 to 1",
                 threshold="log odds from which the training calls a slide positive, chosen on source validation"),
    ),
)  # fmt: skip

SLIDE_SUMMARY = Table(
    "slide_level/summary.csv",
    "scores of the test patients of every domain, with intervals over patients and trainings",
    _BY,
    see="slides",
    per_rotation=True,
    columns=(
        *_METHOD,
        *columns("text", domain="a domain, or `all targets` (mean over those with both labels)",
                 role="`source` or `target`", measure="`auroc`, `average_precision` or `balanced_accuracy`"),
        *columns("number", mean="over trainings", low="lower end of its interval", high="upper end of its interval",
                 sd_trainings="standard deviation between trainings; empty of one",
                 difference="from the first aggregator, same patients; empty of the first",
                 difference_low="lower end of its interval", difference_high="upper end of its interval"),
        *columns("number", True, p="that the difference is 0, two-sided, not corrected; empty where none was tested"),
        *columns("text", True, difference_note="why the difference was not tested"),
        *columns("integer", positive="patients with the label to be found", negative="other patients",
                 trainings="trainings that were scored"),
        *columns("text", note="why there is no interval; targets that are not in the mean"),
    ),
)  # fmt: skip

SLIDE_TRAININGS = Table(
    "slide_level/trainings.csv",
    "one row per aggregator and training",
    _BY,
    see="slides",
    per_rotation=True,
    columns=(
        *_METHOD,
        *columns("integer", seed="of the training", epoch="whose weights were kept, by the loss on source validation"),
        *columns("number", train_loss="of the kept epoch", val_loss="on source validation, of the kept epoch",
                 threshold="log odds from which a slide is called positive", seconds="of the training",
                 weights="that are learned"),
        *columns("text", folder="with its weights, below slide_level/trainings"),
    ),
)  # fmt: skip

SLIDE_LEFT_OUT = Table(
    "slide_level/left_out.csv",
    "slides that were not used, and why",
    _BY,
    see="slides",
    columns=columns("text", slide="name of the slide", reason="why"),
)

ATTENTION = File(
    "slide_level/attention/<slide>_<aggregator>.geojson",
    "patches of a test slide with their attention as measurements (QuPath)", _BY, see="slides",
)  # fmt: skip
ATTENTION_IMAGE = File(
    "slide_level/attention/<slide>_<aggregator>.ome.tiff", "the same as an image, float32, 0 without a patch", _BY,
    see="slides",
)  # fmt: skip
SLIDE_METHODS = File("slide_level/methods.txt", "what was done, for a paper", _BY, see="slides")
SLIDE_INPUTS = File("slide_level/inputs.json", "hash of what the scores depend on", _BY)
SLIDE_MODEL = File(
    "slide_level/trainings/<job>/model.safetensors", "weights of an aggregator", _BY, see="slides"
)  # fmt: skip
SLIDE_RESULT = File(
    "slide_level/trainings/<job>/result.json", "what the training gave: kept epoch, losses, log odds by slide",
    _BY, see="slides",
)  # fmt: skip
SLIDE_ATTENTION = File(
    "slide_level/trainings/<job>/attention.npz", "attention of every patch of the test slides, by slide", _BY,
    see="slides",
)  # fmt: skip

SLIDE_LEVEL_TABLES: tuple[Table, ...] = (SLIDE_SCORES, SLIDE_SUMMARY, SLIDE_TRAININGS, SLIDE_LEFT_OUT)
SLIDE_LEVEL_FILES: tuple[File, ...] = (
    ATTENTION, ATTENTION_IMAGE, SLIDE_METHODS, SLIDE_INPUTS, SLIDE_MODEL, SLIDE_RESULT, SLIDE_ATTENTION,
)  # fmt: skip
