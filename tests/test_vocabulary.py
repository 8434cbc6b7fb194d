"""The words of the field: those that were given up stay out of messages, docstrings, pages, help texts and names."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stainda"

GIVEN_UP = {
    r"beside": "next to, in addition to, against",
    r"told": "reported, stated, distinguished, recognised",
    r"asked for": "requested",
    r"carried (annotations|outlines|labels|shapes|objects|from|along|into)": "propagated, warped",
    r"surer": "more certain, adapted by entropy",
    r"through the stains": "across the stains, object gallery",
    r"how far this goes": "Limitations",
    r"allowed to see": "Target data in training",
    r"to work on": "Target domains",
    r"budget of each strategy": "Budget per strategy",
    r"left out, refused, fallen back": "Exclusions and fallbacks",
    r"methods, to be pasted": "Methods text (copy)",
    r"is no contender": "is excluded from the ranking",
    r"all of it is about": "All statistics here use",
    r"mend the pattern": "Adjust --pattern",
    r"in earnest": "in practice",
    r"help nothing": "do not help",
    r"differences? (in [\w ]+ )?to (the|`|source)": "difference from",
    r"no difference to": "difference from",
    r"all two patients": "both patients",
}
"""What is given up, as it stands in texts, and what is said instead."""

GIVEN_UP_NAMES = {
    "adapt", "bridges", "carry", "carrying", "desk", "following", "kinds", "ladder", "letters", "listening", "material",
    "passes", "places", "quiet", "remembered", "surer", "through", "together", "valley", "verdict", "words",
}  # fmt: skip
"""Names that no module has: each was a metaphor of what is named otherwise now."""

GIVEN_UP_CLASSES = {"Carrier", "Deck", "Origins", "Passes", "Redrawn", "Root", "Together", "Turn"}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring, message and help text of a module: what is no single word."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, re.sub(r"``[^`]*``", "", node.value)


def said(text: str) -> list[str]:
    """What of a text was given up, with what is said instead."""
    joined = re.sub(r"\s+", " ", text)
    return [
        f"{found[0]!r}, say: {instead}"
        for words, instead in GIVEN_UP.items()
        if (found := re.search(rf"(?<![\w`/.-]){words}(?![\w`/-]|\.\w)", joined, re.IGNORECASE))
    ]


@pytest.mark.parametrize("room", sorted({path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")}))
def test_docstrings_messages_and_help_use_the_words_of_the_field(room):
    place = PACKAGE / room
    paths = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    faults = [
        f"{path.relative_to(ROOT)}:{line}: {fault}"
        for path in paths
        for line, text in texts(path)
        for fault in said(text)
    ]
    assert faults == []


PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "configs").rglob("*.yaml")),
    *sorted((ROOT / "studies").rglob("*.yaml")), ROOT / "README.md", ROOT / "CONTRIBUTING.md",
    ROOT / "data_manifests" / "README.md",
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_use_the_words_of_the_field(page):
    assert said(page.read_text(encoding="utf-8")) == []


def test_no_module_has_a_name_that_was_given_up():
    assert sorted({path.stem for path in PACKAGE.rglob("*.py")} & GIVEN_UP_NAMES) == []


def test_every_public_class_has_a_name_of_its_own_and_none_that_was_given_up():
    names = Counter(
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name: number for name, number in names.items() if number > 1} == {}
    assert sorted(set(names) & GIVEN_UP_CLASSES) == []


VAGUE = {"asked", "beside", "found", "one", "told"}
"""Local names that say nothing of what they hold; ``one`` is right where an ``other`` or ``two`` stands next to it."""


def vague_names(code: str) -> set[str]:
    """Vague names that code binds, but for fields of classes and pairs of ``one`` and another."""
    tree, names = ast.parse(code), set()
    fields = {id(part.target) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
              for part in node.body if isinstance(part, ast.AnnAssign)}  # fmt: skip
    for scope in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.Lambda | ast.Module)):
        held = {node.arg for node in ast.walk(scope) if isinstance(node, ast.arg)} | {
            node.id
            for node in ast.walk(scope)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields
        }
        if not isinstance(scope, ast.Module):
            names |= (held & VAGUE) - ({"one"} if held & {"other", "two"} else set())
    return names


def test_local_names_say_what_they_hold():
    faults = {
        path.relative_to(ROOT).as_posix(): names
        for path in sorted(PACKAGE.rglob("*.py"))
        if (names := vague_names(path.read_text(encoding="utf-8")))
    }
    assert faults == {}


def test_a_vague_name_is_seen_in_a_loop_an_argument_and_a_comprehension():
    assert vague_names("def f(found):\n    for one in found:\n        told = [x for x in one]") == {
        "found",
        "one",
        "told",
    }
    assert not vague_names("class A:\n    found: int = 0\ndef f(one, other):\n    return one < other")


def test_a_word_that_was_given_up_is_found_where_it_is_said_and_not_in_code():
    assert said("A table lies\n beside the page.") and said("Carried from B1") and said("How far this goes")
    assert not said("The column `told`, in phantom_beside_real.py, next to runs/beside_plain.csv.")
