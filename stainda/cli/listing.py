"""``stainda list``: what can be named in a study."""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from stainda.cli.display import console, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stainda.study import Entry

_LOOP = (
    "what learns, and from what, may be set with it: {{from: {name}, name: mine, labels: {{name: source, share: 5 %}}, "
    "training: {{start: random, init: {{name: simclr}}, train: lora, layer_decay: 0.75, cache: {{views: 4}}}}}} "
    "(docs/concepts/strategies.md#what-learns)"
)
_KEYS = ("name", "description", "parts", "tasks", "reference", "family", "size")


def list_(
    kind: Annotated[
        str, typer.Argument(help="strategies, recipes, models, tasks, heads, aggregators, stains, parts or data")
    ],
    name: Annotated[str | None, typer.Argument(help="One of them, to read all about it.")] = None,
    family: Annotated[str | None, typer.Option(help="Only this family of strategies, or kind of parts.")] = None,
    search: Annotated[str | None, typer.Option(help="Only those in which these words occur.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with everything about each.")] = False,
) -> None:
    """What can be named in a study: one line each, by family; everything about one by its name.

    Examples:

    - `stainda list strategies`
    - `stainda list strategies --family adversarial`
    - `stainda list strategies --search "batch statistics"`
    - `stainda list strategies dann`
    - `stainda list recipes`
    - `stainda list models --search VGG`
    - `stainda list heads star`
    - `stainda list aggregators`
    """
    from stainda.study import catalogue
    from stainda.study.listing import find_entry, pick

    entries = catalogue(kind)
    listed = pick(entries, kind, family, search) if name is None else [find_entry(entries, kind, name)]
    if as_json:
        typer.echo(json.dumps([{key: getattr(entry, key) for key in _KEYS} for entry in listed], indent=1))
    elif name is not None:
        _whole(kind, listed[0])
    else:
        _lines(kind, listed, full=family is None and search is None)


def _whole(kind: str, entry: Entry) -> None:
    from stainda.study.listing import SIZES

    _say(f"{entry.name}" + (f" ({entry.family})" if entry.family else ""))
    for label, text in (
        ("", entry.description), ("parts", entry.parts), ("tasks", ", ".join(entry.tasks)),
        (SIZES.get(kind, ""), entry.size), ("paper", entry.reference), ("file", entry.file),
    ):  # fmt: skip
        if text:
            _say(f"{label}: {text}" if label else str(text))
    if kind == "strategies":
        _say(f"in a study: strategies: [source_only, {entry.name}, oracle]")
        _say(_LOOP.format(name=entry.name))
    if kind == "recipes":
        _say(f"in a study: recipe: {entry.name}; on the command line: stainda run STUDY.yaml recipe={entry.name}")


def _lines(kind: str, entries: Sequence[Entry], full: bool) -> None:
    from stainda.study.listing import FAMILIES, SIZES

    _say(f"{len(entries)} {kind}")
    if full and (first := [entry for entry in entries if entry.first]):
        _say(f"start with: {', '.join(record.name for record in first)}")
    for family, group in groupby(entries, key=lambda entry: entry.family):
        title = f"\n{family}: {FAMILIES[family]}" if family in FAMILIES else f"\n{family}" if family else ""
        if title:
            _say(title)
        if kind in SIZES:
            rows = [(entry.name, entry.size, entry.paper, entry.line) for entry in group]
            show_table("", ("name", SIZES[kind].partition(",")[0], "paper", "what it is"), rows)
        else:
            show_table("", ("name", "what it is"), [(entry.name, entry.line) for entry in group])
    if kind in SIZES:
        _say(f"\n{SIZES[kind]}")
    if kind == "models":
        _say("more: stainda list heads (of tasks of instances), stainda list aggregators (of labels of slides)")
    if full:
        _say(f"\nall about one: stainda list {kind} NAME; also --search WORDS, --family FAMILY, --json")


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
