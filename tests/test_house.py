"""The house: a room imports only from rooms on lower floors, no two files import each other, start-up stays light."""

import subprocess
import sys
from pathlib import Path

import pytest
from house_rules import absent_arguments, circles, imports, many_arguments, modules
from startup_cases import COMMANDS, HEAVY, environment, imported, make_files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stainda"

FLOORS = {
    "cli": 10, "api": 10,
    "study": 9,
    "slide_level": 8,
    "report": 7, "review": 7, "prediction": 7, "training": 7, "microenvironment": 7,
    "strategies": 6, "registration": 6, "patches": 6, "phantom": 6, "evaluation": 6, "datasets": 6,
    "cohort": 5, "annotations": 5, "models": 5, "instances": 5,
    "run_directory": 4,
    "terminal": 3, "notebook": 3, "config": 3, "slides": 3, "stains": 3, "objects": 3,
    "names": 2, "version": 2, "randomness": 2, "progress": 2,
    "files": 1, "links": 1, "local_server": 1,
    "pool": 1,
    "errors": 0, "memory": 0, "arrays": 0, "processes": 0,
}  # fmt: skip
"""Every room by its floor: a folder of the package, or a module next to them."""

ROOMS = sorted({path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()} - {"__pycache__"})
OUTSIDE = {"__init__", "__main__"}


@pytest.mark.parametrize("room", sorted({*ROOMS} - OUTSIDE))
def test_a_room_imports_only_from_below(room):
    assert room in FLOORS, f"{room} is no room of the house"
    known = modules(PACKAGE, "stainda")
    for name, path in known.items():
        if name.split(".")[1:2] == [room]:
            for other in {
                imported_name.split(".")[1]
                for imported_name in imports(name, path, known)
                if imported_name != "stainda"
            } - {room}:
                assert FLOORS[other] < FLOORS[room], f"{path.relative_to(ROOT)} imports {other}"


def test_the_table_of_floors_names_rooms_that_are_there():
    assert sorted(FLOORS) == sorted({*ROOMS} - OUTSIDE)


def test_no_two_files_import_each_other():
    assert circles({**modules(PACKAGE, "stainda"), **modules(ROOT / "benchmarks")}) == []


def test_a_circle_is_found_wherever_its_imports_stand(tmp_path):
    files = {
        "__init__": "", "a": "from pack.b import B", "b": "def f():\n    from . import c\n",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pack.a\n", "d": "from pack.a import A",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert circles(modules(tmp_path, "pack")) == [["pack.a", "pack.b", "pack.c"]]


def test_no_function_has_many_positional_parameters(tmp_path):
    (tmp_path / "many.py").write_text("def f(self, a, b, c, d, e, f, g): ...\ndef h(a, b, c, d, e, f, *, g): ...\n")
    assert list(many_arguments(tmp_path / "many.py")) == ["f: 7"]
    paths = [path for folder in (PACKAGE, ROOT / "benchmarks") for path in sorted(folder.rglob("*.py"))]
    names = {path: path.relative_to(ROOT).as_posix() for path in paths}
    assert [f"{names[p]} {fault}" for p in paths for fault in many_arguments(p)] == []


def test_docstrings_name_arguments_that_there_are(tmp_path):
    (tmp_path / "stale.py").write_text(
        'def f(a, *, b):\n    """Do.\n\n    Args:\n        a, c: x.\n        b: y\n            d: of it.\n    """\n'
    )
    assert list(absent_arguments(tmp_path / "stale.py")) == ["f: c"]
    paths = [path for folder in (PACKAGE, ROOT / "benchmarks") for path in sorted(folder.rglob("*.py"))]
    names = {path: path.relative_to(ROOT).as_posix() for path in paths}
    assert [f"{names[p]} {fault}" for p in paths for fault in absent_arguments(p)] == []


@pytest.mark.parametrize(
    "module", ["stainda", "stainda.cli.app", "stainda.study", "stainda.stains", "stainda.models", "stainda.report"]
)
def test_importing_a_front_door_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(sorted({set(HEAVY)} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert out.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def small_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("startup")
    make_files(folder)
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.words or "nothing")
def test_a_command_imports_only_what_it_needs(command, small_files):
    ends, packages, said = imported(command.words, small_files)
    assert ends == command.ends, said
    assert packages <= set(command.may.split()), f"stainda {command.words} imports what it does not need"


def test_report_and_evaluation_work_without_torch():
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "import stainda.report, stainda.evaluation\n"
        "from stainda.report import make_report\n"
        "from stainda.evaluation import analyse\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_every_command_has_help_with_an_example():
    from typer.testing import CliRunner

    from stainda.cli.app import app

    runner = CliRunner()
    listed = [command.name or command.callback.__name__ for command in app.registered_commands]
    commands = (
        [["doctor"]] + [[name] for name in listed if name != "doctor"] + [["manifest", "check"], ["manifest", "scan"]]
    )
    for command in commands:
        result = runner.invoke(app, [*command, "--help"])
        assert result.exit_code == 0, command
        if command != ["doctor"]:
            assert "stainda" in result.output and "xample" in result.output, command
