"""The page: everything gathered, drawn and written under ``report/``."""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup

from stainda.evaluation import Analysis, analyse
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.files import write_text
from stainda.progress import SILENT, Progress
from stainda.report import data_tables, figures, result_tables
from stainda.report.drawings import Drawing, draw, picture, write_frame
from stainda.report.figures import Look
from stainda.report.gallery import OUTLINES, Gallery, field_svg, make_gallery
from stainda.report.methods import environment_rows, methods_paragraph
from stainda.report.run import Run, load_run
from stainda.report.tables import Table, duration
from stainda.report.words import PRIMARY, Sentence, answer, count, headline, measure_title, percent

TEMPLATES = Path(__file__).parent / "templates"
MOST_PANELS = 24
THUMBNAILS_SHOWN = 24
OVERLAYS_SHOWN = 12


def make_report(run: str | Path, progress: Progress = SILENT) -> Path:
    """Make ``report/index.html`` of a run directory, from its files alone.

    Beside it: ``report/tables/*.csv``, and ``report/figures/*.svg``, ``.png`` and ``.csv``. ``results.csv`` of the run
    is written anew from the records. Needs neither torch nor slides nor the network, and so does the page.

    Returns:
        The page.

    Raises:
        RecordError: ``run`` is no run directory, or a table in it breaks its contract.
    """
    loaded = load_run(run)
    out = loaded.folder / "report"
    aside = loaded.folder / ".report-new"
    shutil.rmtree(aside, ignore_errors=True)
    with progress.task("Making the report", 4) as task:
        analysis = _analysis(loaded)
        task.advance(1, "statistics")
        page = _Page(loaded, analysis, aside)
        context = page.context()
        task.advance(2, "figures and tables")
        html = _render(context)
        write_text(aside / "index.html", html)
        if analysis is not None:
            write_frame(analysis.results, loaded.folder / "results.csv")
        _replace(aside, out)
        task.advance(1, "page")
    return out / "index.html"


def _analysis(run: Run) -> Analysis | None:
    if run.records.empty or not (run.records["split"] == "test").any():
        return None
    return analyse(run.records, run.trials if len(run.trials) else None, run.study)


def _replace(aside: Path, out: Path) -> None:
    """Put the finished folder in the place of the old one; an interrupted report leaves the old one whole."""
    old = out.with_name(".report-old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    aside.rename(out)
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Picture:
    data: str
    width: int
    height: int
    caption: str
    alt: str


class _Page:
    """Gathers what the template shows. Files are written under ``out`` as tables and figures are made."""

    def __init__(self, run: Run, analysis: Analysis | None, out: Path) -> None:
        self.run, self.analysis, self.out = run, analysis, out
        study = run.study
        self.look = Look(
            tuple(one.name for one in study.strategies),
            {one.name: one.label for one in study.strategies},
            study.baseline,
            study.ceiling,
        )

    def context(self) -> dict[str, Any]:
        run, study = self.run, self.run.study
        title = study.title or study.study.replace("_", " ")
        outlines = re.sub(r"(^|})path", r"\1:is(.photo, .legend) path", OUTLINES)
        return {
            "run": run,
            "study": study,
            "title": title,
            "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8") + outlines),  # noqa: S704  (our own)
            "script": Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),  # noqa: S704
            "facts": self._facts(),
            "sentences": self._sentences(),
            "asked": self._asked(),
            "data": self._data(),
            "registration": self._registration(),
            "propagation": self._propagation(),
            "results": self._results(),
            "training": self._training(),
            "gallery": self._gallery(),
            "left_out": self._table(data_tables.left_out(run)),
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
        return answer(self.run, self.analysis)

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
        strategies = ", ".join(one.label for one in study.strategies)
        named = study.ceiling in {one.name for one in study.strategies}
        ceiling = self.run.label(study.ceiling) if named else "none in this study"
        return [
            (
                "Task",
                f"{study.task.name}: {classes} (segmentation, scored as pixels and as objects)",
            ),
            ("Labels from", ", ".join(study.protocol.sources)),
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
            ("Patches", f"{study.patches.size} × {study.patches.size} pixels of {scale}"),
            ("Network", study.model.name),
            ("Chosen by", "source validation; target labels serve scoring and the ceiling only"),
        ]

    def _data(self) -> dict[str, Any]:
        run = self.run
        if run.cohort.empty:
            return {"missing": run.missing.get("cohort.csv", "")}
        return {
            "domains": self._table(data_tables.domains(run)),
            "patients": self._table(data_tables.patients(run)),
            "thumbnails": self._thumbnails(),
            "shown": THUMBNAILS_SHOWN,
        }

    def _thumbnails(self) -> list[Picture]:
        found = []
        rows = self.run.cohort.sort_values(["centre", "patient"], kind="stable").to_dict("records")
        size = 150 if len(rows) <= 100 else 96
        for row in rows:
            path = self.run.path(f"thumbnails/{row['slide']}.jpg")
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
        return {
            "words": data_tables.registration_words(run),
            "table": self._table(data_tables.registration(run)),
            "overlays": self._overlays(),
            "shown": OVERLAYS_SHOWN,
        }

    def _overlays(self) -> list[Picture]:
        """Refused and uncertain pairs first, then the rest in the order of the table."""
        rows = self.run.quality.copy()
        rows["_rank"] = rows["status"].map({"refused": 0, "rigid_only": 1}).fillna(2)
        found = []
        for row in rows.sort_values("_rank", kind="stable").to_dict("records")[:60]:
            name = str(row.get("overlay") or f"{row['block']}__{row['source']}__{row['target']}.jpg").split("/")[-1]
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
            agreement = self._table(data_tables.agreement(run))
        return {
            "table": self._table(data_tables.propagation(run)),
            "reasons": self._table(data_tables.propagation_reasons(run)),
            "agreement": agreement,
            "no_agreement": run.missing.get("annotations/agreement.csv", ""),
        }

    def _results(self) -> dict[str, Any] | None:
        if self.analysis is None:
            return None
        run, analysis = self.run, self.analysis
        measures = [one for one in (PRIMARY, "object_f1") if (analysis.results["measure"] == one).any()]
        blocks = []
        for measure in measures:
            rows = headline(analysis.results, measure)
            places = result_tables.regions(rows)
            blocks.append(
                {
                    "title": measure_title(measure),
                    "table": self._table(result_tables.strategies_by_domain(run, analysis, measure, self.look)),
                    "differences": self._table(result_tables.differences(run, analysis, self.look, measure)),
                    "gaps": self._table(result_tables.gaps(run, analysis, self.look, measure)),
                    "figures": self._result_figures(measure, rows, places),
                }
            )
        self._frame("choices", analysis.choices)
        self._frame("patients", analysis.patients)
        return {
            "blocks": blocks,
            "every": self._table(result_tables.every_measure(run, analysis)),
            "selection": self._table(result_tables.selection(run, analysis, self.look, PRIMARY)),
        }

    def _result_figures(self, measure: str, rows: pd.DataFrame, places: Sequence[str]) -> list[Drawing]:
        assert self.analysis is not None
        title, level = measure_title(measure), percent(self.run.study.evaluation.level)
        people = rows["n_patients"].max()
        sample = _sample(rows, level)
        out = [
            self._draw(
                figures.forest(rows, self.look, places[:MOST_PANELS], title),
                f"forest_{measure}",
                f"{title} of every strategy, one panel per domain. {sample} Dashed: the baseline.",
                f"Forest plot of {title} by strategy, a panel for each of {len(places)} domains; numbers in the table.",
                rows,
            ),
            self._draw(
                figures.heat_map(rows, self.look, places, title),
                f"heat_map_{measure}",
                f"Mean {title} by strategy and domain (n ≤ {people} test patients per domain). "
                "The same colour scale from 0 to 1 everywhere.",
                f"Heat map of {title}, strategies by domains; numbers in the table.",
                rows,
            ),
        ]
        differences = headline(self.analysis.differences, measure)
        differences = differences[(differences["domain"] == ALL_TARGETS) & np.isfinite(differences["difference"])]
        if len(differences):
            patients = headline(self.analysis.patients, measure)
            patients = patients[patients["domain"] == ALL_TARGETS]
            base = self.run.label(self.run.study.baseline)
            out.append(
                self._draw(
                    figures.paired_differences(differences, patients, self.look, f"difference in {title} to {base}"),
                    f"differences_{measure}",
                    f"Difference in {title} to {base} over all targets. Small circles: single patients. "
                    + _sample(rows, level, True),
                    f"Paired differences of each strategy to the baseline in {title}; numbers in the table.",
                    patients,
                )
            )
        gaps = headline(self.analysis.gaps, measure)
        if len(gaps) and gaps["gap_closed"].notna().any():
            shown = [name for name in places if name in set(gaps["domain"])][:MOST_PANELS]
            out.append(
                self._draw(
                    figures.gap_closed(gaps, self.look, shown),
                    f"gap_closed_{measure}",
                    f"Share of the {title} gap between baseline and ceiling that each strategy closed. {sample}",
                    f"Gap closed in {title} by strategy, one panel per domain; numbers in the table.",
                    gaps,
                )
            )
        return out

    def _gallery(self) -> Gallery | None:
        if self.analysis is None:
            return None
        gallery = make_gallery(self.run, self.analysis)
        for field in gallery.fields:
            write_text(self.out / "figures" / f"{field.file}.svg", field_svg(field))
        return gallery

    def _training(self) -> dict[str, Any]:
        run = self.run
        curves: dict[str, list[pd.DataFrame]] = {}
        frames = []
        for row in run.trials[run.trials["chosen"]].to_dict("records") if len(run.trials) else []:
            job = run.jobs.get(str(row["job"]))
            if job is None or job.curve is None or not {"epoch", "val_dice"} <= set(job.curve.columns):
                continue
            curves.setdefault(str(row["strategy"]), []).append(job.curve)
            frames.append(job.curve.assign(strategy=row["strategy"], seed=row["seed"], job=job.name))
        drawing = None
        if curves:
            drawing = self._draw(
                figures.learning_curves(curves, self.look),
                "learning_curves",
                "Dice on the source-validation patients after each epoch, one line per training of the chosen setting; "
                f"the mark is the checkpoint that was kept. n = {sum(map(len, curves.values()))} trainings.",
                "Learning curves, one panel per strategy.",
                pd.concat(frames, ignore_index=True),
            )
        return {
            "curves": drawing,
            "settings": self._table(result_tables.settings(run)),
            "missing": run.missing.get("trials.csv", ""),
        }

    def _cost(self) -> dict[str, Any]:
        table = self._table(result_tables.cost(self.run, self.look))
        drawing = None
        if table is not None and self.analysis is not None:
            rows = headline(self.analysis.results)
            rows = rows[(rows["domain"] == ALL_TARGETS) & np.isfinite(rows["mean"])][
                ["strategy", "mean", "low", "high"]
            ]
            cost = result_tables.cost_frame(self.run, self.look)
            joined = cost.assign(cpu_minutes=cost["cpu_seconds_per_job"] / 60).merge(rows, on="strategy")
            if len(joined) > 1:
                title = f"{measure_title(PRIMARY)}, all targets"
                drawing = self._draw(
                    figures.cost_against_score(joined, self.look, title),
                    "cost",
                    f"Processor time of one training against {measure_title(PRIMARY)} over all targets. "
                    + _sample(headline(self.analysis.results), percent(self.run.study.evaluation.level), True),
                    "Scatter plot of training time against score, one point per strategy; numbers in the tables.",
                    joined,
                )
        stages = self._table(data_tables.stages(self.run)) if len(self.run.stages) else None
        return {"table": table, "figure": drawing, "stages": stages, "missing": self.run.missing.get("stages.csv", "")}

    def _provenance(self) -> dict[str, Any]:
        study = yaml.safe_dump(self.run.study.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        return {
            "methods": methods_paragraph(self.run, self.analysis),
            "environment": environment_rows(self.run.environment),
            "study": study,
        }

    def _table(self, table: Table | None) -> Table | None:
        if table is not None:
            self._frame(table.name, table.frame)
        return table

    def _frame(self, name: str, frame: pd.DataFrame) -> None:
        write_frame(frame, self.out / "tables" / f"{name}.csv")

    def _draw(self, figure: Any, name: str, caption: str, alt: str, frame: pd.DataFrame) -> Drawing:
        return draw(figure, name, caption, alt, frame, self.out)


def _sample(rows: pd.DataFrame, level: str, overall: bool = False) -> str:
    """What an interval in a figure is, and how many patients are behind it."""
    together = rows["domain"].isin([ALL_TARGETS, ALL_SOURCES])
    shown = rows[rows["domain"] == ALL_TARGETS] if overall else rows[~together]
    counts = sorted({int(n) for n in shown["n_patients"] if n > 0})
    if not counts:
        return "No patient has a score."
    people = f"n\u00a0=\u00a0{counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
    noun = ("test patient" if counts[-1] == 1 else "test patients") + ("" if overall else " per domain")
    if counts[-1] == 1:
        return f"{people} {noun}: no intervals; hollow marks."
    hollow = " Hollow marks: a single patient, no interval." if counts[0] == 1 else ""
    return f"Marks: means over patients; lines: {level} patient-bootstrap intervals; {people} {noun}.{hollow}"


def _render(context: dict[str, Any]) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["svg"] = Markup
    return environment.get_template("page.html.j2").render(**context)
