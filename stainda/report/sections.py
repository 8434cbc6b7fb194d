"""What each section of the page shows, gathered from a run."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from markupsafe import Markup

from stainda.evaluation.groups import few_labels, with_few
from stainda.files import write_text
from stainda.names import file_name, joined_name
from stainda.report import data_tables, effect_tables, insight_tables, recipe_tables, result_tables, training_tables
from stainda.report.cards import card_text, model_cards
from stainda.report.centres import centres
from stainda.report.costs import cost_sentence, cost_table
from stainda.report.drawings import Drawing, picture, write_frame
from stainda.report.gallery import OUTLINES, Gallery, field_svg, make_gallery
from stainda.report.methods import environment_rows, methods_paragraph
from stainda.report.reviewing import review_table, review_words
from stainda.report.run import Run
from stainda.report.search_tables import dashboard_command, without_password
from stainda.report.study_view import View, make_look
from stainda.report.tables import duration
from stainda.report.through import ThroughStains, make_through
from stainda.report.through_svg import BAR, through_svg
from stainda.report.words import PRIMARY, Sentence, answer, count, measure_title, percent
from stainda.report.writer import Absent, Writer

TEMPLATES = Path(__file__).parent / "templates"
THUMBNAILS_SHOWN = 24
MOST_THUMBNAILS = 120
OVERLAYS_SHOWN = 12
MOST_OVERLAYS = 40


@dataclass(frozen=True)
class Picture:
    data: str
    width: int
    height: int
    caption: str
    alt: str


def not_shown(folder: str, what: str, there: int, shown: int) -> str:
    """How many pictures the page leaves out; nothing where it has all."""
    rest = there - shown
    return (
        f"{count(rest, f'more {what}').capitalize()} without a picture here; those there are lie in {folder}/."
        if rest > 0
        else ""
    )


class Sections:
    """Gathers what the template shows. Files are written as tables and figures are made."""

    def __init__(self, run: Run, view: View | None, write: Writer) -> None:
        self.run, self.view, self.write = run, view, write
        self.analysis = None if view is None else view.analysis
        self.look = make_look(run)

    def context(self) -> dict[str, Any]:
        run, study = self.run, self.run.study
        title = study.title or study.study.replace("_", " ")
        outlines = re.sub(r"(^|})path", r"\1:is(.photo, .legend) path", OUTLINES)
        return {
            "run": run,
            "study": study,
            "title": title,
            "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8") + outlines + BAR),  # noqa: S704  (our own)
            "script": Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),  # noqa: S704
            "facts": self._facts(),
            "sentences": self._sentences(),
            "asked": self._asked(),
            "recipe": self.write.table(recipe_tables.recipe(run)),
            "results": self._results(),
            "data": self._data(),
            "statistics": self._statistics(),
            "centres": self._centres(),
            "objects": self._objects(),
            "registration": self._registration(),
            "propagation": self._propagation(),
            "training": self._training(),
            "gallery": self._gallery(),
            "through": self._through(),
            "left_out": self.write.table(data_tables.left_out(run)),
            "excluded": self.write.table(data_tables.excluded(run)),
            "cards": self._cards(),
            "cost": self._cost(),
            "provenance": self._provenance(),
            "primary": measure_title(PRIMARY),
            "level": percent(study.evaluation.level),
        }

    def _facts(self) -> list[tuple[str, str]]:
        run, cohort = self.run, self.run.cohort
        facts = [(str(cohort["slide"].nunique()), "sections"), (str(cohort["patient"].nunique()), "patients")]
        test = cohort.loc[cohort["split"].isin(["test", "all"]), "patient"].nunique()
        facts.append((str(test), "test patient" if test == 1 else "test patients"))
        facts.append((str(cohort["domain"].nunique()), "domains (" + " × ".join(run.study.domain) + ")"))
        facts.append((str(len(run.study.strategies)), "strategies"))
        trained = sum(job.done or bool(job.result) for job in run.jobs.values())
        facts.append((str(trained), "trained networks"))
        if len(run.stages):
            facts.append((duration(pd.to_numeric(run.stages["seconds"]).sum()), "from manifest to result"))
        return facts

    def _sentences(self) -> list[Sentence]:
        if self.analysis is None:
            reason = self.run.missing.get("records.parquet", "there are no records of test patients")
            failed = [job for job in self.run.jobs.values() if job.error]
            more = f" {len(failed)} jobs failed; see the list of failures." if failed else ""
            return [Sentence(f"There is no answer yet: {reason}.{more}", "none")]
        said = answer(self.run, self.analysis)
        assert self.view is not None
        spent = cost_sentence(self.view)
        place = next((i for i, one in enumerate(said) if one.kind == "caution"), len(said))
        slow = training_tables.convergence_words(self.run)
        unfinished = [Sentence(slow, "caution")] if slow else []
        return [*said[:place], *spent, *said[place:], *unfinished, *recipe_tables.weights_caution(self.run)]

    def _asked(self) -> list[tuple[str, str]]:
        study = self.run.study
        analysis = self.analysis
        cohort = self.run.cohort
        known = cohort.loc[cohort["role"] == "target", "domain"].unique()
        targets = list(analysis.targets if analysis else known)
        classes, training = ", ".join(study.task.classes), study.training
        visible = "unlabelled target images may be seen in training (adaptation)"
        if study.protocol.visible == "nothing":
            visible = "no target image is seen in training (generalisation)"
        scale = f"{study.patches.mpp:g} µm" if study.patches.mpp else f"{study.patches.downsample:g} level-0 pixels"
        earlier = self.run.earlier
        strategies = ", ".join(
            one.label + (" (of an earlier call)" if one.name in earlier else "") for one in study.strategies
        )
        named = study.ceiling in {one.name for one in study.strategies}
        ceiling = self.run.label(study.ceiling) if named else "none in this study"
        apart = [f"{self.run.label(one)}: {few_labels(study, one)}" for one in with_few(study, self.look.order)]
        few = f", strategies with a few of them ({'; '.join(apart)})" if apart else ""
        return [
            (
                "Task",
                f"{study.task.name}: {classes} ({study.task.kind}, scored as "
                f"{'pixels' if study.task.kind == 'segmentation' else 'cells of a sliding window'} and as objects)",
            ),
            ("Labels from", ", ".join(study.protocol.teachers)),
            ("To work on", ", ".join(targets) or "no target domain"),
            ("Allowed to see", visible),
            ("Strategies", strategies),
            ("Baseline, ceiling", f"{self.run.label(study.baseline)}; {ceiling}"),
            (
                "Budget of each strategy",
                f"{count(study.search.trials, 'trial')}, {count(study.protocol.seeds, 'seed')} of the chosen setting, "
                "at most "
                f"{training.epochs} × {training.steps_per_epoch} steps of {training.batch_size} patches",
            ),
            ("Refitted on all source patients", "yes" if study.protocol.refit else "no"),
            ("Patches", f"{study.patches.size} × {study.patches.size} pixels of {scale}"),
            ("Network", study.model.name),
            ("Chosen by", f"source validation; target labels serve scoring{few} and the ceiling only"),
        ]

    def _data(self) -> dict[str, Any]:
        run = self.run
        if run.cohort.empty:
            return {"missing": run.missing.get("cohort.csv", "")}
        found = self._thumbnails()
        return {
            "domains": self.write.table(data_tables.domains(run)),
            "patients": self.write.table(data_tables.patients(run)),
            "annotators": self.write.table(data_tables.annotators(run)),
            "annotator_pairs": self.write.table(data_tables.annotator_pairs(run)),
            "thumbnails": found,
            "shown": THUMBNAILS_SHOWN,
            "not_shown": not_shown("thumbnails", "section", len(run.cohort), len(found)),
        }

    def _thumbnails(self) -> list[Picture]:
        found = []
        rows = self.run.cohort.sort_values(["centre", "patient"], kind="stable").to_dict("records")
        size = 150 if len(rows) <= 100 else 96
        for row in rows[:MOST_THUMBNAILS]:
            path = self.run.path(f"thumbnails/{file_name(row['slide'])}.jpg")
            if path is not None:
                caption = f"{row['patient']} · {row['domain']} · {row['split']}"
                alt = f"Section {row['slide']}, {row['stain']}, centre {row['centre']}"
                found.append(Picture(*picture(path, size, 66), caption, alt))
        return found

    def _registration(self) -> dict[str, Any]:
        run = self.run
        if run.quality.empty:
            sections = run.cohort.groupby("block")["slide"].nunique()
            if len(sections) and sections.max() < 2:
                return {"missing": "Every block holds a single section, so there was nothing to register."}
            return {"missing": run.missing.get("registration/quality.csv", "").capitalize() + "."}
        found = self._overlays()
        return {
            "words": data_tables.registration_words(run),
            "table": self.write.table(data_tables.registration(run)),
            "landmarks": self.write.table(data_tables.landmarks(run)),
            "overlays": found,
            "shown": OVERLAYS_SHOWN,
            "not_shown": not_shown("registration/overlays", "pair", len(run.quality), len(found)),
        }

    def _overlays(self) -> list[Picture]:
        """Refused and uncertain pairs first, then the rest in the order of the table."""
        rows = self.run.quality.copy()
        rows["_rank"] = rows["status"].map({"refused": 0, "rigid_only": 1}).fillna(2)
        found = []
        for row in rows.sort_values("_rank", kind="stable").to_dict("records")[:MOST_OVERLAYS]:
            drawn = f"{joined_name(row['block'], row['source'], row['target'])}.jpg"
            name = str(row.get("overlay") or drawn).split("/")[-1]
            path = self.run.path(f"registration/overlays/{name}")
            if path is not None:
                caption = f"{row['source']} onto {row['target']}: {str(row['status']).replace('_', ' ')}"
                found.append(Picture(*picture(path, 760, 60), caption, f"Overlay of {caption}"))
        return found

    def _propagation(self) -> dict[str, Any]:
        run = self.run
        if run.propagation.empty:
            if run.quality.empty:
                return {"missing": "Nothing was registered, so no annotation was carried."}
            return {"missing": run.missing.get("annotations/propagation.csv", "").capitalize() + "."}
        agreement = None
        if len(run.agreement):
            agreement = self.write.table(data_tables.agreement(run))
        return {
            "table": self.write.table(data_tables.propagation(run)),
            "reasons": self.write.table(data_tables.propagation_reasons(run)),
            "review_words": review_words(run),
            "review": self.write.table(review_table(run)),
            "agreement": agreement,
            "no_agreement": run.missing.get("annotations/agreement.csv", ""),
        }

    def _results(self) -> dict[str, Any] | None:
        if self.view is None:
            return None
        view, write = self.view, self.write
        run, analysis, look = view.run, view.analysis, view.look
        measures = [one for one in (PRIMARY, "object_f1") if (analysis.results["measure"] == one).any()]
        blocks = []
        for measure in measures:
            more = ("source_target", "worst_domain") if measure == PRIMARY else ()
            blocks.append(
                {
                    "title": measure_title(measure),
                    "table": write.table(result_tables.strategies_by_domain(run, analysis, measure, look)),
                    "figures": self._figures(("forest", "heat_map", *more), measure),
                    "worst": write.try_table("Worst domains", lambda: insight_tables.worst_domains(view, PRIMARY))
                    if measure == PRIMARY
                    else None,
                    "against": self._figures(
                        ("differences", "slopes", "gap_closed") if measure == PRIMARY else ("differences",), measure
                    ),
                    "differences": write.table(result_tables.differences(run, analysis, look, measure)),
                    "gaps": write.table(result_tables.gaps(run, analysis, look, measure)),
                }
            )
        write.frame("choices", analysis.choices)
        write.frame("patients", analysis.patients)
        return {"blocks": blocks, "every": write.table(result_tables.every_measure(run, analysis))}

    def _statistics(self) -> dict[str, Any] | None:
        if self.view is None:
            return None
        view, write = self.view, self.write
        write.frame("variance", view.insights().variance)
        return {
            "ranks": self._figures(("critical_difference", "effects")),
            "effects": write.try_table("Sizes of effects", lambda: insight_tables.effects(view, PRIMARY)),
            "models": self._figures(("variance",)),
            "gap": self._figures(("domain_gap",)),
        }

    def _objects(self) -> dict[str, Any] | None:
        if self.view is None:
            return None
        view, write = self.view, self.write
        return {
            "figures": self._figures(("precision_recall", "froc")),
            "detections": write.try_table("Detections", lambda: insight_tables.detections(view)),
            "counts": self._figures(("counts", "areas")),
            "agreement": [
                write.try_table(title, lambda what=what: insight_tables.agreement(view, what))  # type: ignore[misc]
                for what, title in (("counts", "Counts"), ("areas", "Areas"))
            ],
            "pixels": self._figures(("reliability",)),
        }

    def _centres(self) -> list[Any]:
        if self.view is None or self.run.cohort.empty:
            return []
        return [(one, self.write.table(one.table)) for one in centres(self.view)]

    def _cards(self) -> list[Any]:
        if self.view is None:
            return []
        found = []
        for card in model_cards(self.view):
            write_text(self.write.out / card.file, card_text(self.view, card))
            found.append((card, self.write.table(card.scores)))
        return found

    def _figures(self, names: Sequence[str], measure: str = PRIMARY) -> list[Drawing | Absent]:
        assert self.view is not None
        return [self.write.figure(self.view, name, measure) for name in names]

    def _gallery(self) -> Gallery | None:
        if self.analysis is None:
            return None
        gallery = make_gallery(self.run, self.analysis)
        for field in gallery.fields:
            write_text(self.write.out / "figures" / f"{field.file}.svg", field_svg(field))
        return gallery

    def _through(self) -> ThroughStains | None:
        if self.analysis is None:
            return None
        shown = make_through(self.run, self.analysis)
        for one in shown.objects:
            write_text(self.write.out / "figures" / f"{one.file}.svg", through_svg(one))
        if shown.objects:
            write_frame(shown.frame, self.write.out / "figures" / "through_stains.csv")
        return shown

    def _training(self) -> dict[str, Any]:
        run, view = self.run, self.view
        selection = None
        if view is not None:
            selection = self.write.table(result_tables.selection(run, view.analysis, view.look, PRIMARY))
        thresholds = None
        if view is not None:
            thresholds = self.write.table(training_tables.lost_by_threshold(view))
        return {
            "figures": self._figures(("learning_curves",)) if view else [],
            "convergence": self.write.table(training_tables.convergence(run)),
            "thresholds": thresholds,
            "who_taught": self.write.table(training_tables.who_taught(run)),
            "who_taught_words": training_tables.who_taught_words(run),
            "refit_words": training_tables.refit_words(run),
            "effects": self.write.table(effect_tables.method_effects(run)),
            "selection": selection,
            "regret": self._figures(("regret",)) if view else [],
            "search": self._figures(("history", "importance", "slices", "parallel")) if view else [],
            "settings": self.write.table(result_tables.settings(run)),
            "missing": run.missing.get("trials.csv", ""),
            "dashboard": dashboard_command(run),
        }

    def _cost(self) -> dict[str, Any]:
        stages = self.write.table(data_tables.stages(self.run)) if len(self.run.stages) else None
        return {
            "table": self.write.table(cost_table(self.run, self.look)),
            "figures": self._figures(("cost",)) if self.view else [],
            "stages": stages,
            "missing": self.run.missing.get("stages.csv", ""),
        }

    def _provenance(self) -> dict[str, Any]:
        values = self.run.study.model_dump(mode="json")
        values["strategies"] = [one for one in values["strategies"] if one["name"] not in self.run.earlier]
        if values["search"]["storage"]:
            values["search"]["storage"] = without_password(values["search"]["storage"])
        study = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        return {
            "methods": methods_paragraph(self.run, self.view),
            "environment": environment_rows(self.run.environment),
            "study": study,
        }
