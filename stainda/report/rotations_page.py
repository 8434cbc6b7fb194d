"""The page of a study of several rotations: one answer over all of them, and the way to the page of each."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from markupsafe import Markup

from stainda.report import data_tables, insight_tables, recipe_tables, result_tables, rotations_tables
from stainda.report.costs import cost_sentence
from stainda.report.drawings import Drawing
from stainda.report.kinds import Plot
from stainda.report.rotations import Root, RootView
from stainda.report.rotations_kinds import root_plot
from stainda.report.rotations_words import answer_of_rotations, asked, methods_of_rotations, unanswered
from stainda.report.sections import TEMPLATES, Sections
from stainda.report.study_view import View
from stainda.report.tables import duration
from stainda.report.words import PRIMARY, Sentence, count, measure_title, percent
from stainda.report.writer import Absent, Writer


class RootWriter(Writer):
    """Draws figures over all rotations."""

    def plot_of(self, view: View, name: str, measure: str) -> Plot:
        assert isinstance(view, RootView)
        return root_plot(view, name, measure, "source_validation")


class RootSections(Sections):
    """Gathers what the template of a study of several rotations shows."""

    def __init__(self, root: Root, view: RootView | None, write: Writer) -> None:
        super().__init__(root.run, view, write)
        self.root, self.seen = root, view
        self.answers = {} if view is None else rotations_tables.own_answers(view)

    def context(self) -> dict[str, Any]:
        study = self.run.study
        return {
            "run": self.run,
            "study": study,
            "title": study.title or study.study.replace("_", " "),
            "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704  (our own)
            "script": Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),  # noqa: S704
            "facts": self._facts(),
            "sentences": self._sentences(),
            "asked": self._asked(),
            "recipe": self.write.table(recipe_tables.recipe(self.run)),
            "noun": self.root.noun,
            "rotations": self.write.table(rotations_tables.rotations(self.root, self.answers)),
            "results": self._results(),
            "statistics": self._statistics(),
            "data": self._data(),
            "registration": self._registration(),
            "training": self._training(),
            "left_out": self.write.table(rotations_tables.left_out(self.root)),
            "cost": self._cost(),
            "budget": self.write.table(rotations_tables.budget(self.root)),
            "splits": self.write.table(rotations_tables.splits(self.root)),
            "provenance": self._provenance(),
            "primary": measure_title(PRIMARY),
            "level": percent(study.evaluation.level),
        }

    def _facts(self) -> list[tuple[str, str]]:
        run, cohort = self.run, self.run.cohort
        begun = [one for one in self.root.places if one.folder]
        facts = [(f"{len(self.root.scored)} of {len(begun)}", "rotations scored")]
        facts.append((str(cohort["slide"].nunique()), "sections"))
        facts.append((str(cohort["patient"].nunique()), "patients"))
        if self.seen is not None:
            overall = self.seen.overall() if len(self.seen.analysis.results) else pd.DataFrame({"n_patients": [0]})
            n = int(overall["n_patients"].max()) if len(overall) else 0
            facts.append((str(n), "test patient" if n == 1 else "test patients"))
        facts.append((str(cohort["domain"].nunique()), "domains (" + " × ".join(run.study.domain) + ")"))
        facts.append((str(len(run.study.strategies)), "strategies"))
        facts.append((str(self.root.trained), "trained networks"))
        if len(run.stages):
            facts.append((duration(pd.to_numeric(run.stages["seconds"]).sum()), "from manifest to result"))
        return facts

    def _sentences(self) -> list[Sentence]:
        if self.seen is None:
            return unanswered(self.root)
        said = answer_of_rotations(self.seen, self.answers)
        place = next((i for i, one in enumerate(said) if one.kind == "caution"), len(said))
        return [*said[:place], *cost_sentence(self.seen), *said[place:], *recipe_tables.weights_caution(self.run)]

    def _asked(self) -> list[tuple[str, str]]:
        known = dict(super()._asked())
        study, training = self.run.study, self.run.study.training
        known.pop("Labels from")
        known.pop("To work on")
        known["Budget of each strategy"] = (
            f"in each rotation {count(study.search.trials, 'trial')}, {count(study.protocol.seeds, 'seed')} of the "
            f"chosen setting, at most {training.epochs} × {training.steps_per_epoch} steps of {training.batch_size} "
            "patches"
        )
        known["Chosen by"] = known["Chosen by"].replace("source validation", "source validation of each rotation", 1)
        dealt = "patients are divided anew in each" if study.protocol.folds else "each strategy is trained anew in each"
        task = {"Task": known.pop("Task")}
        return list({**task, **dict([asked(self.root, dealt)]), **known}.items())

    def _results(self) -> dict[str, Any] | None:
        if self.seen is None:
            return None
        view, write = self.seen, self.write
        run, analysis, look = view.run, view.analysis, view.look
        blocks = []
        for measure in [one for one in (PRIMARY, "object_f1") if (analysis.results["measure"] == one).any()]:
            first = measure == PRIMARY
            table = result_tables.strategies_by_domain(run, analysis, measure, look)
            differences = result_tables.differences(run, analysis, look, measure)
            against = ("differences", "slopes", "gap_closed") if first else ("differences",)
            blocks.append(
                {
                    "title": measure_title(measure),
                    "table": write.table(rotations_tables.of_rotations(table, view)),
                    "figures": self._figures(("forest", "heat_map"), measure),
                    "matrix": self._figures(("source_target",), measure) if first else [],
                    "pairs": write.try_table("Sources to targets", lambda: rotations_tables.pairs(view, PRIMARY))
                    if first
                    else None,
                    "worst_figures": self._figures(("worst_domain",), measure) if first else [],
                    "worst": write.try_table("Worst pairs", lambda: rotations_tables.worst(view, PRIMARY))
                    if first
                    else None,
                    "against": self._figures(against, measure),
                    "differences": write.table(rotations_tables.of_rotations(differences, view)),
                    "gaps": write.table(result_tables.gaps(run, analysis, look, measure)),
                }
            )
        write.frame("choices", view.together.choices)
        write.frame("patients", analysis.patients)
        every = rotations_tables.of_rotations(
            result_tables.every_measure(run, analysis), view, "Every measure, class and rotation."
        )
        return {"blocks": blocks, "every": write.table(every)}

    def _statistics(self) -> dict[str, Any] | None:
        if self.seen is None:
            return None
        view, write = self.seen, self.write
        write.frame("variance", view.insights().variance)
        return {
            "ranks": self._figures(("critical_difference", "effects")),
            "effects": write.try_table("Sizes of effects", lambda: insight_tables.effects(view, PRIMARY)),
            "models": self._figures(("variance",)),
        }

    def _data(self) -> dict[str, Any]:
        run = self.run
        if run.cohort.empty:
            return {"missing": run.missing.get("cohort.csv", "")}
        return {
            "domains": self.write.table(rotations_tables.domains(self.root)),
            "annotators": self.write.table(data_tables.annotators(run)),
            "annotator_pairs": self.write.table(data_tables.annotator_pairs(run)),
        }

    def _training(self) -> dict[str, Any]:
        if self.seen is None:
            return {"selection": None, "regret": []}
        table = result_tables.selection(self.run, self.seen.analysis, self.look, PRIMARY)
        means = table.frame[[name for name in table.frame if not name.endswith("_choice")]]
        rows = [[replace(cell, small="") for cell in row] for row in table.rows]
        caption = f"Selection rules: mean {measure_title(PRIMARY)} over all rotations of what each chose."
        return {
            "selection": self.write.table(replace(table, frame=means, rows=rows, caption=caption)),
            "regret": self._figures(("regret",)),
        }

    def _provenance(self) -> dict[str, Any]:
        found = super()._provenance()
        digest = hashlib.sha256((self.run.folder / "study.yaml").read_bytes()).hexdigest()
        environment = [*found["environment"], ("study.yaml, SHA-256", digest)]
        return {**found, "methods": methods_of_rotations(self.root, self.seen), "environment": environment}

    def _figures(self, names: Sequence[str], measure: str = PRIMARY) -> list[Drawing | Absent]:
        assert self.seen is not None
        return [self.write.figure(self.seen, name, measure) for name in names]
