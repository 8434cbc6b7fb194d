"""Every command in the documents exists as it is written, and runs in its place on a page unless a reason is given.

The reasons stand in ``NOT_RUN``. What they cover is still taken apart: the command, its options, the files it
names, and the study with its changes.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import typer
from document_desk import make_desk
from document_pages import PAGES, ROOT, Typed, blocks, help_examples, typed
from readme_lines import check_what_came
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.cli.display import silence
from stainda.config import load_study

NOT_RUN = {
    r"make (setup|demo|test)": "sets up an environment; the Makefile has the target",
    r"source .*|open .*|cp .*": "of the shell",
    r"python benchmarks/.*": "hours; the script and its options are there",
    r"stainda (run|train|patches|evaluate|propagate) studies/.*": "trains for minutes to hours; the README's is run",
    r"stainda register .*": "VALIS takes 20 s to import; the README's is run without it, in test_readme_lines.py with",
    r"stainda review .*": "serves a page until Ctrl+C; tests/review does so",
    r"stainda dashboard .*": "serves a page until Ctrl+C; tests/study does so",
    r"stainda predict .*": "predicts for a minute; the README's is run",
    r"stainda .*\.mrxs.*": "a MIRAX slide, which no program here writes; other slides are run through the same lines",
    r"stainda .*\.\./shared/data.*": "real images that are not shipped",
    r"stainda manifest make (hubmap_kidney|monuseg) .*": "a public data set; tests/study makes its layout",
    r"stainda transform import valis_results/.*": "a folder that VALIS writes; tests/registration makes one",
    r"stainda weights compare .*": "encoders of which none is shipped; tests/study compares small ones",
    r"stainda worker .*": "needs a leader at work; tests/study has one",
    r"stainda reproduce .*": "the whole run once more; tests/study does so with small ones",
    r"stainda cluster mine\.yaml": "a file of one's own; those of configs/clusters are run",
    r"stainda soup .*": "needs several trainings of a strategy; tests/training makes them",
    r"stainda active .*": "needs a trained run; tests/study has one",
    r"stainda microenvironment .*": "needs sections with cells; tests/study and tests/microenvironment make them",
    r"stainda weights (convert|check).*": "published files of up to 5 GB; tests/cli makes small ones",
    r"stainda phantom .*": "sixteen sections of 2048 px; the tests make smaller ones",
    r"stainda .* --pdf": "a minute of drawing; tests/report makes one",
}
"""Pattern of the whole command, and why no test of the documents runs it."""

CHANGES_A_STUDY = {"run", "register", "propagate", "patches", "train", "evaluate", "plan"}
PLACEHOLDER = re.compile(r"^(FILE|IN|OUT|FOLDER|NAME|RUN|ROOT|SLIDE|STUDY|MANIFEST|MAP|MICROMETRES)\b|HASH|…|^\[")

EVERY = [one for page in PAGES for one in typed(page)] + help_examples(app)
SENTENCES = [one for page in PAGES for one in typed(page, inline=True)]


def _reason(one: Typed) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.fullmatch(pattern, " ".join(one.words))), None)


def _named(one: object) -> str:
    return f"{one.page}:{one.line}: {one}" if isinstance(one, Typed) else str(one)


def _command(words: tuple[str, ...]):
    """The click command that words lead to, and the words left for it."""
    found, rest = typer.main.get_command(app), list(words)
    while rest and rest[0] in getattr(found, "commands", {}):
        found = found.commands[rest.pop(0)]
    return found, rest


@pytest.mark.parametrize("one", [one for one in EVERY if one.words[0] == "stainda"], ids=_named)
def test_a_command_can_be_typed_as_it_is_written(one):
    command, rest = _command(one.words[1:])
    try:
        with command.make_context(one.words[1], rest) as context:
            assert context.command is command
    finally:
        silence(False)
    if "help" in one.page:
        return
    assert not [word for word in one.words if PLACEHOLDER.search(word)], "a name that is no file"


@pytest.mark.parametrize("one", SENTENCES, ids=_named)
def test_a_command_in_a_sentence_exists_with_its_options(one):
    for name in re.split(r"\|", one.words[2]) if len(one.words) > 2 and "|" in one.words[2] else [None]:
        words = one.words[1:] if name is None else (one.words[1], name)
        command, rest = _command(words)
        assert command is not typer.main.get_command(app), f"there is no command {one.words[1]!r}"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--debug"}
        assert {word for word in rest if word.startswith("--")} <= known


@pytest.mark.parametrize("one", [one for one in EVERY if _reason(one)], ids=_named)
def test_what_is_not_run_names_files_that_are_there(one, monkeypatch):
    monkeypatch.chdir(ROOT)
    first, *rest = one.words
    if first == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    if first == "python":
        script = (ROOT / rest[0]).read_text()
        assert all(f'"{word}"' in script for word in rest[1:] if word.startswith("--"))
    if first != "stainda":
        return
    studies = [word for word in rest if word.startswith("studies/")]
    for file in studies:
        if rest[0] in CHANGES_A_STUDY and not file.startswith("studies/mine/"):
            _check_study(Path(file), [word for word in rest if "=" in word and not word.startswith("-")])


def _check_study(file: Path, changes: list[str]) -> None:
    assert load_study(file, changes).strategies


@pytest.mark.parametrize("pattern", NOT_RUN, ids=str)
def test_every_reason_is_needed(pattern):
    assert any(re.fullmatch(pattern, " ".join(one.words)) for one in EVERY)


@pytest.fixture(scope="session")
def made_desk(tmp_path_factory):
    """The folder, and what the README's lines printed in it."""
    place = tmp_path_factory.mktemp("documents") / "desk"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return place, make_desk(place)


def test_the_lines_of_the_readme_lead_from_a_folder_to_objects_on_a_new_slide(made_desk, monkeypatch):
    monkeypatch.chdir(made_desk[0])
    check_what_came(*made_desk)


@pytest.fixture
def desk(made_desk, tmp_path, monkeypatch):
    """A working directory of its own for each page."""
    place = tmp_path / "desk"
    shutil.copytree(made_desk[0], place)
    monkeypatch.chdir(place)
    return place


# The README's lines are typed while the desk is made.
RUN_PAGES = [*PAGES[1:], *dict.fromkeys(typed_line.page for typed_line in help_examples(app))]


SLOW = ("docs/howto/report.md", "stainda report --help", "stainda plot --help", "stainda compare --help")
"""Pages that draw whole reports; together a third of the time of this file."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in SLOW else [])
        for page in RUN_PAGES
        if any(not _reason(one) for one in EVERY if one.page == page)
    ],
)
def test_the_commands_of_a_page_run_in_their_order(page, desk):
    for one in (one for one in EVERY if one.page == page and not _reason(one)):
        done = CliRunner().invoke(app, list(one.words[1:]), catch_exceptions=False)
        assert done.exit_code == 0, f"{page}: {one}\n{done.output}"


PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python"]


def _before() -> dict[str, object]:
    """The names that the pages speak of before their blocks: points, and shapes by slide."""
    import numpy as np

    from stainda.annotations import read_shapes

    slides = sorted(Path("slides/Centre A").glob("2021-014_*.geojson"))
    return {
        "xy": np.array([[100.0, 120.0], [300.0, 280.0]]),
        "glomeruli": read_shapes("glomeruli.geojson"),
        "shapes": {path.stem: read_shapes(path) for path in slides},
    }


@pytest.mark.parametrize("page", dict.fromkeys(block.page for block in PYTHON))
def test_the_python_of_a_page_runs_in_its_order(page, desk):
    names = _before()
    for block in (block for block in PYTHON if block.page == page):
        padded = "\n" * block.line + block.text
        exec(compile(padded, page, "exec"), names)


YAML = [block for page in PAGES for block in blocks(page) if block.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=lambda block: f"{block.page}:{block.line}")
def test_the_settings_of_a_page_are_settings_of_a_study(block, desk):
    import yaml

    from stainda.config import load_strategy

    values = yaml.safe_load(block.text)
    if "align" in values:
        load_strategy({"name": "written", **values})
        return
    study = yaml.safe_load(Path("studies/quickstart.yaml").read_text(encoding="utf-8"))
    Path("studies/written.yaml").write_text(yaml.safe_dump({**study, **values}), encoding="utf-8")
    found = load_study(Path("studies/written.yaml"))
    for name, value in values.items():
        assert getattr(found, name) is not None, (name, value)
