"""The sections of the pages, in their order, and which studies each of them shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stainda.report.figure_registry import Rotations
from stainda.report.run import LoadedRun
from stainda.run_directory.microenvironment_tables import INPUTS
from stainda.run_directory.slide_level_tables import SLIDE_SUMMARY


@dataclass(frozen=True)
class PageSection:
    """A section of the page.

    Attributes:
        link: its name in the list of sections.
        several: its title on the page of several rotations, where that is another.
        open: unfolded at first.
    """

    key: str
    link: str
    title: str
    several: str = ""
    open: bool = False
    rotations: Rotations = "any"


SECTIONS = (
    PageSection("answer", "Answer", "The answer", "The answer over all rotations"),
    PageSection("rotations", "Rotations", "Rotation by rotation", rotations="several"),
    PageSection("asked", "Question", "Question and recipe"),
    PageSection("results", "Results", "Strategy by domain"),
    PageSection("classes", "Classes", "Class by class"),
    PageSection("statistics", "Statistics", "Ranks, sizes of effects, variance"),
    PageSection("domain-gap", "Domain gap", "Distance of the domains, robustness of encoders"),
    PageSection("centres", "Centres", "Centre by centre", rotations="one"),
    PageSection("objects", "Objects", "Objects and pixels", rotations="one"),
    PageSection("object-gallery", "Object gallery", "The same object across the stains", rotations="one"),
    PageSection("microenvironment", "Micro-environment", "Cells in and around structures", rotations="one"),
    PageSection("slide-level", "Slides", "Labels of whole slides", "Labels of whole slides, rotation by rotation"),
    PageSection("examples", "Examples", "Examples", rotations="one"),
    PageSection("data", "Data", "Data"),
    PageSection("registration", "Registration", "Registration", "Registration, made once for all rotations"),
    PageSection("propagation", "Propagation", "Propagated annotations", rotations="one"),
    PageSection("training", "Training", "Training, search and selection", "Training and selection"),
    PageSection("left-out", "Exclusions", "Exclusions and fallbacks"),
    PageSection("cost", "Cost", "Cost", "Budget and cost"),
    PageSection("models", "Models", "Model cards", rotations="one"),
    PageSection("provenance", "Provenance", "Provenance"),
)
"""In the order of the page."""


OF_STRATEGIES = (
    "rotations", "results", "classes", "statistics", "domain-gap", "centres", "objects", "object-gallery", "examples",
    "registration", "propagation", "training", "models", "cost",
)  # fmt: skip
"""Sections that a study without strategies does not have."""


def sections_of(run: LoadedRun, noun: str) -> dict[str, PageSection]:
    """The sections that show this study, by key, each under the title it has there."""
    mine = "several" if run.rotates else "one"
    sections = {}
    for section in SECTIONS:
        if section.key == "microenvironment" and not INPUTS.at(run.folder).is_file():
            continue  # few studies ask for it
        if section.key == "slide-level" and not SLIDE_SUMMARY.at(run.folder).is_file():
            continue
        if section.key == "classes" and len(run.study.task.classes) < 2:
            continue
        if not run.study.strategies and section.key in OF_STRATEGIES:
            continue
        if section.rotations in ("any", mine):
            title = section.several if run.rotates and section.several else section.title
            sections[section.key] = replace(section, title=title.replace("by domain", f"by {noun}"))
    return sections


OF_A_COMPARISON = (
    PageSection("studies", "Studies", "The studies", open=True),
    PageSection("paired", "Paired", "Patient by patient", open=True),
    PageSection("scores", "Scores", "Each study by itself", open=True),
)
