"""Writes the files and tables into the page on the run directory, from their declarations.

After a change of a declaration: ``python docs/_site/run_directory.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tables import table

from stainda.run_directory.contents import CONTENTS, JOB_TABLES
from stainda.run_directory.declaration import File, Table

PAGE = Path(__file__).parents[1] / "reference" / "files.md"

PAGES = {
    "few_labels": "../howto/few_labels.md", "self_supervised": "../howto/self_supervised.md", "formats": "formats.md",
    "fusion": "../howto/fusion.md", "microenvironment": "../howto/microenvironment.md",
    "propagation": "../concepts/propagation.md",
    "protocol": "../concepts/protocol.md", "registration": "../concepts/registration.md",
    "report": "../howto/report.md", "resume": "../howto/resume.md", "review": "../howto/review.md",
    "slides": "../howto/slides.md",
    "fine_tuning": "../howto/fine_tuning.md", "robustness": "../howto/robustness.md",
    "strategies": "../concepts/strategies.md", "tasks": "../concepts/tasks.md", "transforms": "../howto/transforms.md",
    "workers": "../howto/workers.md",
}  # fmt: skip
"""Where a declaration's ``see`` leads, from :data:`PAGE`."""

FOLDERS = {
    "": "The study", "thumbnails": "Pictures", "fields": "Pictures", "object_gallery": "Pictures",
    "registration": "Registration", "annotations": "Annotations", "review": "Review", "patches": "Patches",
    "search": "The study", "jobs": "Trainings", "pretraining": "Trainings", "features": "Trainings",
    "active": "Regions to annotate", "microenvironment": "Micro-environment", "detections": "Micro-environment",
    "shared": "The study", "tensorboard": "Trainings", "mlflow": "Trainings",
    "slide_level": "Labels of whole slides", "encoders": "Encoders",
    "phantom": "A synthetic cohort", "rotations": "Several rotations", "report": "Report",
}  # fmt: skip
"""The heading under which the files of a folder are listed."""


def files() -> str:
    """Every file, by the heading of its folder."""
    parts = []
    for title in dict.fromkeys(FOLDERS.values()):
        mine = sorted(
            (one for one in CONTENTS if _title(one) == title), key=lambda one: (one.path.count("/"), one.path)
        )
        rows = [(f"`{one.path}`", f"{one.meaning}{_link(one)}", one.written_by) for one in mine]
        parts.append(f"### {title}\n{table(('file', 'what it holds', 'written by'), rows)}")
    return "\n\n".join(parts)


def tables() -> str:
    """Every column of every table."""
    return "\n\n".join(
        f"### `{one.path}`\n{_sentence(one)}\n\n{table(('column', 'kind', 'meaning'), _columns(one))}"
        for one in CONTENTS
        if isinstance(one, Table) and one not in JOB_TABLES
    )


def page(text: str) -> str:
    """The page with what stands between its markers made again."""
    for name, made in (("files", files()), ("tables", tables())):
        begin, end = f"<!-- {name}: docs/_site/run_directory.py -->", f"<!-- end of {name} -->"
        found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(found.findall(text)) != 1:
            raise SystemExit(f"{PAGE}: the markers {begin} and {end} must stand there once")
        block = f"{begin}\n\n{made}\n\n{end}"
        text = found.sub(lambda _, block=block: block, text)
    return text


def _title(one: File) -> str:
    return FOLDERS[one.path.partition("/")[0] if "/" in one.path else ""]


def _link(one: File) -> str:
    return f" ([{one.see}]({PAGES[one.see]}))" if one.see else ""


def _sentence(one: Table) -> str:
    text = f"{one.meaning[0].upper()}{one.meaning[1:]}{_link(one)}."
    if one.per_rotation:
        text += " In a study of several rotations the column `rotation` comes first."
    return text


def _columns(one: Table) -> Iterable[tuple[str, str, str]]:
    for column in (*one.columns, *((one.more,) if one.more is not None else ())):
        yield f"`{column.name}`", column.kind + (", optional" if column.optional else ""), column.meaning


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
