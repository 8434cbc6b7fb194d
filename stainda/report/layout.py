"""The sections of the pages, in their order, and which studies each of them shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stainda.report.kinds import Rotations
from stainda.report.run import Run
from stainda.run_directory.microenvironment_tables import INPUTS


@dataclass(frozen=True)
class Section:
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
    Section("answer", "Answer", "The answer", "The answer over all rotations"),
    Section("rotations", "Rotations", "Rotation by rotation", rotations="several"),
    Section("asked", "Question", "Question and recipe"),
    Section("results", "Results", "Strategy by domain"),
    Section("statistics", "Statistics", "Ranks, sizes of effects, variance"),
    Section("centres", "Centres", "Centre by centre", rotations="one"),
    Section("objects", "Objects", "Objects and pixels", rotations="one"),
    Section("through", "Through the stains", "The same object through the stains", rotations="one"),
    Section("microenvironment", "Micro-environment", "Cells in and around structures", rotations="one"),
    Section("examples", "Examples", "Examples", rotations="one"),
    Section("data", "Data", "Data"),
    Section("registration", "Registration", "Registration", "Registration, made once for all rotations"),
    Section("propagation", "Propagation", "Propagated annotations", rotations="one"),
    Section("training", "Training", "Training, search and selection", "Training and selection"),
    Section("left-out", "Exclusions", "Exclusions and fallbacks"),
    Section("cost", "Cost", "Cost", "Budget and cost"),
    Section("models", "Models", "Model cards", rotations="one"),
    Section("provenance", "Provenance", "Provenance"),
)
"""In the order of the page."""


def sections_of(run: Run, noun: str) -> dict[str, Section]:
    """The sections that show this study, by key, each under the title it has there."""
    mine = "several" if run.rotates else "one"
    found = {}
    for one in SECTIONS:
        if one.key == "microenvironment" and not INPUTS.at(run.folder).is_file():
            continue  # few studies ask for it
        if one.rotations in ("any", mine):
            title = one.several if run.rotates and one.several else one.title
            found[one.key] = replace(one, title=title.replace("by domain", f"by {noun}"))
    return found


OF_A_COMPARISON = (
    Section("studies", "Studies", "The studies", open=True),
    Section("paired", "Paired", "Patient by patient", open=True),
    Section("scores", "Scores", "Each study by itself", open=True),
)
