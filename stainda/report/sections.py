"""What each section of the page shows, gathered from a run."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup

from stainda.files import write_text
from stainda.names import file_name, joined_name
from stainda.report import data_tables, recipe_tables, training_tables
from stainda.report.answer import answer, no_answer
from stainda.report.answer_of_rotations import not_in_the_answer
from stainda.report.cards import card_text, model_cards, models_table, shared_items
from stainda.report.centres import CentreText, centres
from stainda.report.class_tables import class_tables
from stainda.report.costs import cost_sentence
from stainda.report.drawings import Drawing, picture, write_frame
from stainda.report.figure_registry import kind
from stainda.report.gallery import OUTLINES, Gallery, field_svg, make_gallery
from stainda.report.layout import sections_of
from stainda.report.methods import environment_rows, methods_paragraph
from stainda.report.microenvironment import make_microenvironment
from stainda.report.microenvironment_words import microenvironment_answer
from stainda.report.object_gallery import ObjectGallery, make_object_gallery
from stainda.report.object_gallery_svg import BAR, object_svg
from stainda.report.question import question_rows
from stainda.report.reviewing import review_words
from stainda.report.run import LoadedRun
from stainda.report.search_tables import dashboard_command, without_password
from stainda.report.slide_level import has_slide_level, make_slide_level, slide_answers
from stainda.report.study_view import StudyView
from stainda.report.summary_text import PRIMARY, Sentence, answer_measure, count, measure_title, percent
from stainda.report.tables import PageTable, duration
from stainda.report.without_content import by_reason, without_content
from stainda.report.writer import Absent, Writer
from stainda.run_directory.contents import STUDY
from stainda.run_directory.tables import AGREEMENT, COHORT, PROPAGATION, QUALITY
from stainda.run_directory.training_tables import STAGE_SECONDS, TRIALS

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAILS_SHOWN = 24
MOST_THUMBNAILS = 120
OVERLAYS_SHOWN = 12
OF_OBJECTS = ("forest",)
"""Kinds of figures that the page draws of object F1 too."""
SEPARATION = ("panoptic_quality", "divided_objects", "merged_objects")
"""Measures of how objects that touch are kept apart; the last is there only where a task does so."""


@dataclass(frozen=True)
class Picture:
    data: str
    width: int
    height: int
    caption: str
    alt: str


@dataclass(frozen=True)
class Said:
    """The sentences of the answer: ``first`` is seen at first, ``detail`` is folded, ``limitations`` follow."""

    first: tuple[Sentence, ...]
    detail: tuple[Sentence, ...]
    limitations: tuple[Sentence, ...]

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> Said:
        """The first sentence is the answer; what limits the whole study stands right after it."""
        claims = [sentence for sentence in sentences if sentence.kind not in ("caution", "limit")]
        limits = [sentence for sentence in sentences if sentence.kind == "limit"]
        cautions = tuple(sentence for sentence in sentences if sentence.kind == "caution")
        return cls((*claims[:1], *limits), tuple(claims[1:]), cautions)

    def all(self) -> tuple[Sentence, ...]:
        return (*self.first, *self.detail, *self.limitations)


def not_shown(folder: str, what: str, available: int, shown: int) -> str:
    """How many pictures the page leaves out; nothing where it has all."""
    rest = available - shown
    return (
        f"{count(rest, f'more {what}').capitalize()} without a picture on this page; pictures are in {folder}/."
        if rest > 0
        else ""
    )


class Sections:
    """Gathers what the template shows. Files are written as tables and figures are made."""

    def __init__(self, run: LoadedRun, view: StudyView | None, write: Writer) -> None:
        self.run, self.view, self.write = run, view, write
        self.analysis = None if view is None else view.analysis
        self.noun = view.noun if view is not None else "rotation" if run.rotates else "domain"
        self.sections = sections_of(run, self.noun)

    def table(self, name: str, measure: str = PRIMARY) -> PageTable | Absent | None:
        """A kind of table; ``None`` where the study has none."""
        return self.write.table_of(name, self.run, self.view, measure)

    def tables(self, *names: str, measure: str = PRIMARY) -> list[PageTable | Absent | None]:
        """Kinds of tables that the page links and does not print."""
        return [self.table(name, measure) for name in names]

    def context(self) -> dict[str, Any]:
        run, study = self.run, self.run.study
        title = study.title or study.study.replace("_", " ")
        gathered = self._gathered()
        empty = without_content(run, gathered, self.view is not None)
        absent = by_reason(empty, {key: section.link for key, section in self.sections.items()})
        statements = Said.of(self._sentences())
        outlines = re.sub(r"(^|})path", r"\1:is(.photo, .legend) path", OUTLINES)
        return {
            "run": run,
            "study": study,
            "title": title,
            "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8") + outlines + BAR),  # noqa: S704  (our own)
            "script": Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),  # noqa: S704
            "sections": {key: section for key, section in self.sections.items() if key not in empty},
            "absent": absent,
            "noun": self.noun,
            "facts": self._facts(),
            "said": statements,
            "main_table": results["blocks"][0]["table"] if (results := gathered.get("results")) else None,
            "asked": question_rows(run, self.view),
            "recipe": self.table("recipe") if study.strategies else None,
            "primary": measure_title(PRIMARY),
            "level": percent(study.evaluation.level),
            **gathered,
        }

    def _gathered(self) -> dict[str, Any]:
        """What the sections of this study show."""
        run = self.run
        makers: dict[str, tuple[str, Callable[[], Any]]] = {
            "rotations": ("rotations", lambda: self.table("rotations")),
            "results": ("results", self._results),
            "data": ("data", self._data),
            "classes": ("classes", self._classes),
            "statistics": ("statistics", self._statistics),
            "domain_gap": ("domain-gap", self._domain_gap),
            "centres": ("centres", self._centres),
            "objects": ("objects", self._objects),
            "registration": ("registration", self._registration),
            "propagation": ("propagation", self._propagation),
            "training": ("training", self._training),
            "gallery": ("examples", self._gallery),
            "object_gallery": ("object-gallery", self._object_gallery),
            "microenvironment": ("microenvironment", lambda: make_microenvironment(run, self.write)),
            "slide_level": ("slide-level", lambda: make_slide_level(run, self.write)),
            "left_out": ("left-out", lambda: self.table("left_out")),
            "excluded": ("left-out", lambda: self.table("excluded")),
            "models": ("models", self._models),
            "cost": ("cost", self._cost),
            "provenance": ("provenance", self._provenance),
        }
        return {name: make() for name, (section, make) in makers.items() if section in self.sections}

    def _facts(self) -> list[tuple[str, str]]:
        run, cohort = self.run, self.run.cohort
        scored = len(run.scored) if run.study.strategies else sum(row.state == "complete" for row in run.begun)
        facts = [(f"{scored} of {len(run.begun)}", "rotations scored")] if run.rotates else []
        facts += [(str(cohort["slide"].nunique()), "sections"), (str(cohort["patient"].nunique()), "patients")]
        test = self._test_patients()
        if test is not None:
            facts.append((str(test), "test patient" if test == 1 else "test patients"))
        facts.append((str(cohort["domain"].nunique()), "domains (" + " × ".join(run.study.domain) + ")"))
        if run.study.strategies:
            facts.append((str(len(run.study.strategies)), "strategies"))
            trained = sum(job.done or bool(job.result) for job in run.jobs.values())
            facts.append((str(trained), "trained networks"))
        if len(run.stages):
            facts.append((duration(pd.to_numeric(run.stages["seconds"]).sum()), "from manifest to result"))
        return facts

    def _test_patients(self) -> int | None:
        """Each rotation has its own test patients: those that were scored; ``None`` where none was."""
        cohort = self.run.cohort
        if not self.run.rotates:
            return int(cohort.loc[cohort["split"].isin(["test", "all"]), "patient"].nunique())
        if self.view is None:
            return None
        overall = self.view.overall()
        return int(overall["n_patients"].max()) if len(overall) else 0

    def _sentences(self) -> list[Sentence]:
        first = microenvironment_answer(self.run)
        if self.view is None:
            if has_slide_level(self.run):
                return [*first, *slide_answers(self.run)]
            return [*first, *not_in_the_answer(self.run)] if first else no_answer(self.run)
        sentences = answer(self.view)
        spent = cost_sentence(self.view)
        place = next((i for i, sentence in enumerate(sentences) if sentence.kind == "caution"), len(sentences))
        slow = training_tables.convergence_words(self.run)
        unfinished = [Sentence(slow, "caution")] if slow else []
        return [
            *first, *sentences[:place], *spent, *sentences[place:], *unfinished,
            *recipe_tables.weights_caution(self.run),
        ]  # fmt: skip

    def _data(self) -> dict[str, Any]:
        run = self.run
        if run.cohort.empty:
            return {"missing": run.missing.get(COHORT.path, ""), "splits": self.table("splits")}
        result = [] if run.rotates else self._thumbnails()
        return {
            "domains": self.table("domains"),
            "linked": self.tables("patients", "annotators", "annotator_pairs"),
            "splits": self.table("splits"),
            "thumbnails": result,
            "shown": THUMBNAILS_SHOWN,
            "not_shown": not_shown("thumbnails", "section", len(run.cohort), len(result)),
        }

    def _thumbnails(self) -> list[Picture]:
        thumbnails = []
        rows = self.run.cohort.sort_values(["centre", "patient"], kind="stable").to_dict("records")
        size = 150 if len(rows) <= 100 else 96
        for row in rows[:MOST_THUMBNAILS]:
            path = self.run.path(f"thumbnails/{file_name(row['slide'])}.jpg")
            if path is not None:
                caption = f"{row['patient']} · {row['domain']} · {row['split']}"
                alt = f"Section {row['slide']}, {row['stain']}, centre {row['centre']}"
                thumbnails.append(Picture(*picture(path, size, 66), caption, alt))
        return thumbnails

    def _registration(self) -> dict[str, Any]:
        run = self.run
        if run.quality.empty:
            sections = run.cohort.groupby("block")["slide"].nunique()
            if len(sections) and sections.max() < 2:
                return {"missing": "Every block holds a single section, so there was nothing to register."}
            return {"missing": run.missing.get(QUALITY.path, "").capitalize() + "."}
        result = self._overlays()
        return {
            "words": data_tables.registration_words(run),
            "linked": self.tables("registration", "landmarks"),
            "overlays": result,
            "shown": OVERLAYS_SHOWN,
            "not_shown": not_shown("registration/overlays", "pair", len(run.quality), len(result)),
        }

    def _overlays(self) -> list[Picture]:
        """Refused and uncertain pairs first, then the rest in the order of the table."""
        rows = self.run.quality.copy()
        rows["_rank"] = rows["status"].map({"refused": 0, "rigid_only": 1}).fillna(2)
        overlays = []
        for row in rows.sort_values("_rank", kind="stable").to_dict("records")[:OVERLAYS_SHOWN]:
            drawn = f"{joined_name(row['block'], row['source'], row['target'])}.jpg"
            name = str(row.get("overlay") or drawn).split("/")[-1]
            path = self.run.path(f"registration/overlays/{name}")
            if path is not None:
                caption = f"{row['source']} onto {row['target']}: {str(row['status']).replace('_', ' ')}"
                overlays.append(Picture(*picture(path, 760, 60), caption, f"Overlay of {caption}"))
        return overlays

    def _propagation(self) -> dict[str, Any]:
        run = self.run
        if run.propagation.empty:
            if run.quality.empty:
                return {"missing": "Nothing was registered, so no annotation was propagated."}
            return {"missing": run.missing.get(PROPAGATION.path, "").capitalize() + "."}
        agreement = self.table("agreement") if len(run.agreement) else None
        return {
            "table": self.table("propagation"),
            "reasons": self.table("propagation_reasons"),
            "review_words": review_words(run),
            "review": self.table("review"),
            "agreement": agreement,
            "no_agreement": run.missing.get(AGREEMENT.path, ""),
        }

    def _results(self) -> dict[str, Any] | None:
        if self.analysis is None:
            return None
        results = self.analysis.results
        scored = set(results["measure"])
        separation = (
            SEPARATION if SEPARATION[-1] in scored else ()
        )  # measured where a task keeps touching objects apart
        first = answer_measure(self.run.study)
        wanted = dict.fromkeys([first, PRIMARY, "object_f1", *separation])
        measures = [measure for measure in wanted if measure in scored]
        blocks = [self._block(measure, measure == first) for measure in measures]
        self.write.frame("choices", self.analysis.choices_by_rotation)
        self.write.frame("patients", self.analysis.patients)
        return {"blocks": blocks, "every": self.tables("results")}

    def _block(self, measure: str, first: bool) -> dict[str, Any]:
        """The results by one measure; the first has more figures and tables than the others, separation has none."""
        figures = ("forest", "heat_map", "source_target", "worst_domain", "differences", "slopes", "gap_closed")
        of_objects = () if measure in SEPARATION else OF_OBJECTS
        return {
            "title": measure_title(measure),
            "table": self.table("strategies", measure),
            "figures": self._figures(figures if first else of_objects, measure),
            "linked": self.tables(*(("pairs", "worst") if first else ()), "differences", "gaps", measure=measure),
            "shares": self.table("label_shares", measure) if first else None,
            "share_figures": self._figures(("label_curve",), measure) if first else [],
        }

    def _classes(self) -> dict[str, Any] | None:
        if self.view is None:
            return None
        tables = {name: class_tables(self.view, name) for name in self.run.study.task.classes}
        return {
            "figures": self._figures(("confusion_objects", "confusion_pixels")),
            "shares": self.table("class_shares"),
            "blocks": [
                {"title": name, "tables": [self.write.table(table) for table in of_class]}
                for name, of_class in tables.items()
            ],
        }

    def _statistics(self) -> dict[str, Any] | None:
        if self.view is None:
            return None
        self.write.frame("variance", self.view.insights().variance)
        return {
            "ranks": self._figures(("critical_difference", "effects")),
            "effects": self.table("effects"),
            "models": self._figures(("variance",)),
        }

    def _domain_gap(self) -> dict[str, Any]:
        return {"figures": self._figures(("domain_gap",)), "encoders": self.table("encoders")}

    def _objects(self) -> dict[str, Any] | None:
        if self.view is None:
            return None
        return {
            "figures": self._figures(("precision_recall", "froc")),
            "counts": self._figures(("counts", "areas")),
            "pixels": self._figures(("reliability",)),
            "linked": self.tables("detections", "agreement_counts", "agreement_areas"),
        }

    def _centres(self) -> list[CentreText]:
        return [] if self.view is None or self.run.cohort.empty else centres(self.view)

    def _models(self) -> dict[str, Any] | None:
        if self.view is None:
            return None
        cards = model_cards(self.view)
        for card in cards:
            write_text(self.write.out / card.file, card_text(self.view, card))
        return {"shared": shared_items(cards), "table": self.write.table(models_table(cards)) if cards else None}

    def _figures(self, names: Sequence[str], measure: str = PRIMARY) -> list[Drawing | Absent]:
        """Those of the kinds that show this study; none where nothing was scored."""
        if self.view is None:
            return []
        return [self.write.figure(self.view, name, measure) for name in names if kind(name).on_page(self.run)]

    def _gallery(self) -> Gallery | None:
        if self.analysis is None:
            return None
        gallery = make_gallery(self.run, self.analysis)
        for field in gallery.fields:
            write_text(self.write.out / "figures" / f"{field.file}.svg", field_svg(field))
        return gallery

    def _object_gallery(self) -> ObjectGallery | None:
        if self.analysis is None:
            return None
        shown = make_object_gallery(self.run, self.analysis)
        for object_ in shown.objects:
            write_text(self.write.out / "figures" / f"{object_.file}.svg", object_svg(object_))
        if shown.objects:
            write_frame(shown.frame, self.write.out / "figures" / "object_gallery.csv")
        return shown

    def _training(self) -> dict[str, Any]:
        run = self.run
        return {
            "figures": self._figures(("learning_curves",)),
            "thresholds": self.table("threshold_regret"),
            "who_taught": self.table("who_taught"),
            "who_taught_words": training_tables.who_taught_words(run),
            "refit_words": training_tables.refit_words(run),
            "effects": self.table("method_effects"),
            "pretraining": self.table("pretraining"),
            "regret": self._figures(("regret",)),
            "search": self._figures(("history", "importance", "slices", "parallel")),
            "linked": self.tables("convergence", "selection", "settings"),
            "missing": run.missing.get(TRIALS.path, ""),
            "dashboard": "" if run.rotates else dashboard_command(run),
        }

    def _cost(self) -> dict[str, Any]:
        return {
            "budget": self.table("budget"),
            "table": self.table("cost"),
            "figures": self._figures(("cost",)),
            "stages": self.table("stages") if len(self.run.stages) else None,
            "missing": self.run.missing.get(STAGE_SECONDS.path, ""),
        }

    def _provenance(self) -> dict[str, Any]:
        values = self.run.study.model_dump(mode="json")
        values["strategies"] = [
            strategy for strategy in values["strategies"] if strategy["name"] not in self.run.earlier
        ]
        if values["search"]["storage"]:
            values["search"]["storage"] = without_password(values["search"]["storage"])
        write_text(STUDY.inside(self.write.out), yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        return {
            "methods": methods_paragraph(self.run, self.view),
            "environment": [
                *environment_rows(self.run.environment),
                ("study.yaml, SHA-256", hashlib.sha256(STUDY.at(self.run.folder).read_bytes()).hexdigest()),
            ],
        }
